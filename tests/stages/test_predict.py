"""What a packed classifier says of images on the disk."""

import csv
import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from stages import pack, predict
from stages.shared.errors import BadInput
from stages.shared.serving.packed import load_packed
from stages.shared.serving.packed import predict as predict_images
from tests.support.packed_classifier import NAMES, draw_image, write_arm


@pytest.fixture(autouse=True)
def packed(tmp_path, monkeypatch) -> Path:
    """A packed classifier, and images in a folder, one of them in a folder below."""
    monkeypatch.chdir(tmp_path)
    write_arm(tmp_path)
    monkeypatch.setattr("sys.argv", ["pack", "diffmix", "packed"])
    pack.main()

    (tmp_path / "images/more").mkdir(parents=True)
    draw_image(0).save(tmp_path / "images/b.png")
    draw_image(1).save(tmp_path / "images/a.PNG")
    draw_image(2).save(tmp_path / "images/more/c.webp", lossless=True)
    (tmp_path / "images/notes.txt").write_text("no image")
    return tmp_path / "packed"


def run(monkeypatch, capsys, *words: str) -> str:
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["predict", "packed", *words])
    predict.main()
    return capsys.readouterr().out


def test_the_likeliest_classes_of_an_image_in_order(packed, monkeypatch, capsys):
    lines = list(csv.DictReader(io.StringIO(run(monkeypatch, capsys, "images/b.png"))))
    (expected,) = predict_images(load_packed(packed), [draw_image(0)])
    order = expected.argsort(descending=True)

    assert [line["class"] for line in lines] == [NAMES[number] for number in order]
    assert [line["rank"] for line in lines] == ["1", "2", "3"]
    written = torch.tensor([float(line["probability"]) for line in lines])
    torch.testing.assert_close(written, expected[order], atol=5e-5, rtol=0)


def test_a_folder_is_read_whole_in_order_and_what_is_no_image_left_out(monkeypatch, capsys):
    lines = csv.DictReader(io.StringIO(run(monkeypatch, capsys, "images", "--top", "1")))
    images = [line["image"] for line in lines]
    assert images == ["images/a.PNG", "images/b.png", "images/more/c.webp"]


@pytest.mark.parametrize("name", ["._b.png", "@eaDir/b.png", ".thumbnails/b.png"])
def test_what_a_system_put_beside_is_left_out(name, tmp_path, monkeypatch, capsys):
    hidden = tmp_path / "images" / name
    hidden.parent.mkdir(exist_ok=True)
    hidden.write_bytes(b"no picture")

    lines = csv.DictReader(io.StringIO(run(monkeypatch, capsys, "images", "--top", "1")))
    assert [line["image"] for line in lines] == [
        "images/a.PNG", "images/b.png", "images/more/c.webp",
    ]  # fmt: skip


def test_json_into_a_file(tmp_path, monkeypatch, capsys):
    assert run(monkeypatch, capsys, "images", "--top", "2", "--output", "out.json") == ""
    entries = json.loads((tmp_path / "out.json").read_text())
    assert entries[0]["image"] == "images/a.PNG"
    assert all(len(entry["top"]) == 2 for entry in entries)


def test_a_file_in_a_folder_that_is_not_there_is_refused_before_anything(monkeypatch, capsys):
    with pytest.raises(SystemExit) as refused:
        run(monkeypatch, capsys, "images", "--output", "new/out.json")
    assert refused.value.code == 2
    assert "--output: there is no folder new; make it first" in capsys.readouterr().err


def test_pictures_are_seen_upright(tmp_path, packed, monkeypatch, capsys):
    """A camera's picture that lies on its side says so in its EXIF block."""
    upright = draw_image(3)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright.save(tmp_path / "upright.png")

    lines = list(csv.DictReader(io.StringIO(run(monkeypatch, capsys, "turned.png", "upright.png"))))
    assert [line["probability"] for line in lines[:3]] == [
        line["probability"] for line in lines[3:]
    ]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere.png", "nowhere.png: there is no such file or folder"),
        ("data/download", "data/download: holds no images"),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(monkeypatch, capsys, path, message):
    with pytest.raises(BadInput, match=message):
        run(monkeypatch, capsys, path)


def test_one_that_cannot_be_read_is_named_and_the_others_are_answered(monkeypatch, capsys):
    Path("images/broken.png").write_bytes(b"no image")
    monkeypatch.setattr("sys.argv", ["predict", "packed", "images", "--top", "1"])
    capsys.readouterr()

    with pytest.raises(SystemExit) as ended:
        predict.main()
    printed = capsys.readouterr()

    assert ended.value.code == 1
    assert "images/broken.png: is not a readable image" in printed.err
    answered = [line["image"] for line in csv.DictReader(io.StringIO(printed.out))]
    assert answered == ["images/a.PNG", "images/b.png", "images/more/c.webp"]


def test_without_an_answer_no_table_is_printed(monkeypatch, capsys):
    Path("broken.png").write_bytes(b"no image")
    monkeypatch.setattr("sys.argv", ["predict", "packed", "broken.png"])
    capsys.readouterr()

    with pytest.raises(SystemExit) as ended:
        predict.main()

    assert ended.value.code == 1
    assert capsys.readouterr().out == ""


def test_an_image_that_is_named_twice_is_answered_once(monkeypatch, capsys):
    printed = run(monkeypatch, capsys, "images/b.png", "images/b.png", "--top", "1")
    assert printed.count("images/b.png") == 1

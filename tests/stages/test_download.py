"""The folder importer, and the download stage as it is run."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import download
from stages.datasets.folder import read_folder
from stages.datasets.toybirds.tables import draw
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.schemas.download import Folder
from stages.shared.tables import Table
from tests.support.closure import ROOT


def save(path: Path, colour=(200, 30, 30), size=(6, 4), mode="RGB", **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def photos(root: Path, names=("cat", "dog"), train=2, test=1) -> Path:
    """A folder of train/<class>/ and test/<class>/, every image of another colour."""
    for label, name in enumerate(names):
        for split, count in (("train", train), ("test", test)):
            for number in range(count):
                colour = (label, number, 9 if split == "test" else 0)
                save(root / split / name / f"{number}.png", colour)
    return root


def read(root: Path, test_share: float = 0.3):
    return read_folder(Folder(path=str(root), test_share=test_share))


def run_stage(work: Path, monkeypatch, **folder) -> Path:
    """Run the stage in `work`, on Toybirds unless a folder is given; returns its output."""
    data = yaml.safe_load((ROOT / "tests/support/tiny.yaml").read_text())["data"]
    data |= {
        "name": "folder" if folder else "toybirds",
        "metaclass": "pet",
        "toybirds": {"train_per_class": 2, "test_per_class": 1, "ood_per_group": 3, "bias": 0.9},
        "folder": folder or {"path": "data/no-photos", "test_share": 0.3},
    }
    (work / "params.yaml").write_text(yaml.safe_dump({"data": data}))

    monkeypatch.chdir(work)
    download.main()
    return work / "data/download"


def test_train_and_test_folders_are_read_in_order_of_class_and_file(tmp_path):
    dataset = read(photos(tmp_path, names=("dog", "cat")))

    assert dataset.classes == ["cat", "dog"]

    rows, images = dataset.splits["train"]
    assert rows["label"].tolist() == [0, 0, 1, 1]

    files = ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    assert list(images) == [(tmp_path / "train" / name).read_bytes() for name in files]
    assert dataset.splits["test"].rows["label"].tolist() == [0, 1]


def test_files_keep_their_bytes_whatever_the_case_of_the_suffix(tmp_path):
    photos(tmp_path)
    names = ("a.JPG", "b.jpeg", "c.webp", "d.PNG")
    originals = [save(tmp_path / "train/cat" / name) for name in names]

    kept = list(read(tmp_path).splits["train"].images)[2:6]

    assert kept == [original.read_bytes() for original in originals]


def test_hidden_nested_and_other_files_are_left_out(tmp_path):
    photos(tmp_path)
    strays = (
        ".DS_Store", "train/.DS_Store", "train/cat/._0.png", "train/cat/Thumbs.db",
        "train/.cache/a.png",
    )  # fmt: skip
    for stray in strays:
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_bytes(b"no image")
    save(tmp_path / "train/cat/nested/a.png")

    dataset = read(tmp_path)
    assert dataset.classes == ["cat", "dog"]
    assert len(dataset.splits["train"].rows) == 4


def test_a_turned_photograph_is_set_upright(tmp_path):
    photos(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° to the right
    save(tmp_path / "train/cat/00.jpg", size=(6, 4), exif=exif)

    _, turned, _, *_ = read(tmp_path).splits["train"].images  # 0.png, 00.jpg, 1.png

    (tmp_path / "out").write_bytes(turned)
    with Image.open(tmp_path / "out") as image:
        assert (image.size, image.format) == ((4, 6), "PNG")


@pytest.mark.parametrize(
    ("mode", "colour", "seen"),
    [
        ("RGBA", (0, 0, 0, 0), (255, 255, 255)),
        ("I;16", 0x8000, (128, 128, 128)),
        ("L", 77, (77, 77, 77)),
    ],
)
def test_transparent_and_deep_images_become_what_a_viewer_shows(tmp_path, mode, colour, seen):
    photos(tmp_path)
    save(tmp_path / "train/cat/0.png", colour, mode=mode)

    (tmp_path / "out").write_bytes(next(iter(read(tmp_path).splits["train"].images)))
    with Image.open(tmp_path / "out") as image:
        assert np.asarray(image.convert("RGB"))[0, 0].tolist() == list(seen)


def test_one_tree_is_split_class_by_class(tmp_path):
    for name, count in (("cat", 10), ("dog", 2)):
        for number in range(count):
            save(tmp_path / name / f"{number}.png", (number, count, 0))

    first = read(tmp_path)
    again = read(tmp_path)
    train, test = (list(first.splits[name].images) for name in ("train", "test"))

    assert first.splits["train"].rows["label"].tolist() == [0] * 7 + [1]
    assert first.splits["test"].rows["label"].tolist() == [0] * 3 + [1]
    assert sorted(train + test) == sorted(path.read_bytes() for path in tmp_path.rglob("*.png"))
    assert list(again.splits["test"].images) == test


def test_a_new_class_leaves_the_split_of_the_others_alone(tmp_path):
    for number in range(10):
        save(tmp_path / "dog" / f"{number}.png", (number, 0, 0))
        save(tmp_path / "cat" / f"{number}.png", (number, 1, 0))
    before = list(read(tmp_path).splits["test"].images)

    for number in range(10):
        save(tmp_path / "ant" / f"{number}.png", (number, 2, 0))

    assert list(read(tmp_path).splits["test"].images)[3:] == before


def test_train_without_test_is_split(tmp_path):
    for name in ("cat", "dog"):
        for number in range(4):
            save(tmp_path / "train" / name / f"{number}.png")

    splits = read(tmp_path, test_share=0.5).splits
    assert [len(split.rows) for split in splits.values()] == [4, 4]


def test_a_class_may_be_untested(tmp_path):
    photos(tmp_path)
    (tmp_path / "test/cat/0.png").unlink()
    (tmp_path / "test/cat").rmdir()

    assert read(tmp_path).splits["test"].rows["label"].tolist() == [1]


def spoil_empty(root: Path) -> None:
    (root / "train/dog/1.png").write_bytes(b"")


def spoil_text(root: Path) -> None:
    (root / "test/dog/0.png").write_text("no image")


def spoil_half(root: Path) -> None:
    path = save(root / "train/cat/half.jpg", size=(200, 200))
    path.write_bytes(path.read_bytes()[:-400])


def spoil_class(root: Path) -> None:
    (root / "train/empty").mkdir()


def spoil_test(root: Path) -> None:
    save(root / "test/horse/0.png")


def spoil_all_tests(root: Path) -> None:
    for path in (root / "test").rglob("*.png"):
        path.unlink()


def spoil_name(root: Path) -> None:
    (root / "train/dog").rename(root / "train/do\ng")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            spoil_empty,
            r"train/dog/1\.png: is not a readable image \(the file is empty\); "
            r"remove or replace it$",
        ),
        (
            spoil_text,
            r"test/dog/0\.png: is not a readable image \(cannot identify .*\); "
            r"remove or replace it$",
        ),
        (
            spoil_half,
            r"train/cat/half\.jpg: is not a readable image \(.*truncated.*\); "
            r"remove or replace it$",
        ),
        (
            spoil_class,
            r"train/empty: holds no jpg, png or webp image; add some, or remove the folder$",
        ),
        (spoil_test, r"test/horse: there is no such class in train; rename or remove the folder$"),
        (
            spoil_all_tests,
            r"test: holds no test image; add some, or remove it to have train split$",
        ),
        (spoil_name, r"train/do\\ng': the name has unprintable characters; rename the folder$"),
    ],
)
def test_a_spoilt_folder_is_refused_by_name(tmp_path, spoil, message):
    spoil(photos(tmp_path))
    with pytest.raises(BadInput, match=message) as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_class_too_small_to_split_is_named(tmp_path):
    for name, count in (("cat", 3), ("dog", 1)):
        for number in range(count):
            save(tmp_path / name / f"{number}.png")

    line = "dog: one image cannot be split into train and test; add another"
    with pytest.raises(BadInput, match=line):
        read(tmp_path)


def test_a_folder_without_classes_is_refused(tmp_path):
    save(tmp_path / "0.png")
    with pytest.raises(BadInput, match="holds 0 class folders, at least 2 are needed"):
        read(tmp_path)


@pytest.mark.parametrize("path", ["/no/such", "~/photos"])
def test_a_missing_folder_names_the_parameter(path):
    line = f"params.yaml: data.folder.path: there is no folder {path}; name the one"
    with pytest.raises(BadInput, match=line):
        read_folder(Folder(path=path, test_share=0.3))


def test_a_path_is_relative_to_the_workspace_as_for_dvc(tmp_path, monkeypatch):
    photos(tmp_path / "photos")
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    monkeypatch.chdir(tmp_path)

    assert read_folder(Folder(path="photos", test_share=0.3)).classes == ["cat", "dog"]


def test_what_may_be_a_slip_is_told(tmp_path, caplog):
    root = photos(tmp_path)
    shutil.rmtree(root / "test/dog")
    save(root / "tst/dog/0.png")

    assert read(root).classes == ["cat", "dog"]
    assert f"{root}/tst: is neither train nor test, and left out" in caplog.text
    assert f"{root}/test/dog: there is no test image of it" in caplog.text

    shutil.rmtree(root / "test")
    read(root)
    line = f"{root}: there is no folder test; a share of 0.3 of each class is set aside"
    assert line in caplog.text

    (root / "train").rename(root / "Train")
    line = r"/Train: holds folders, but no image; call those of a split train and test"
    with pytest.raises(BadInput, match=line):
        read(root)


def test_the_stage_writes_tables_and_classes_of_a_folder(tmp_path, monkeypatch):
    output = run_stage(tmp_path, monkeypatch, path=str(photos(tmp_path / "photos")), test_share=0.3)

    classes = read_classes(output)[["name", "metaclass"]]
    assert classes.to_numpy().tolist() == [["cat", "pet"], ["dog", "pet"]]
    assert [len(Table(output / name)) for name in ("train", "masks", "test", "ood")] == [4, 0, 2, 0]
    assert "group" in read_manifest(output / "ood").columns


def test_the_stage_writes_toybirds_twice_alike(tmp_path, monkeypatch):
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        output = run_stage(tmp_path / name, monkeypatch)
        files = [path for path in output.rglob("*") if path.is_file()]
        contents.append({path.relative_to(output): path.read_bytes() for path in files})

    assert contents[0] == contents[1]
    assert len(contents[0]) == 9  # four manifests with a shard each, and classes.csv
    assert len(Table(tmp_path / "one/data/download/ood")) == 12


def test_the_stage_writes_the_foreground_of_each_training_image_of_toybirds(tmp_path, monkeypatch):
    output = run_stage(tmp_path, monkeypatch)
    train = Table(output / "train")
    masks = Table(output / "masks")

    assert masks.rows[["key", "label"]].equals(train.rows[["key", "label"]])

    with Image.open(io.BytesIO(masks.read(5))) as mask:
        assert (mask.mode, mask.format, mask.size) == ("L", "PNG", train.image(5).size)
        assert (np.asarray(mask) == np.where(draw("train", 5, 0.9)[1], 255, 0)).all()


def test_a_refused_folder_leaves_the_last_output_whole(tmp_path, monkeypatch):
    root = photos(tmp_path / "photos")
    output = run_stage(tmp_path, monkeypatch, path=str(root), test_share=0.3)
    before = (output / "train/shard-00000.tar").read_bytes()

    spoil_text(root)
    with pytest.raises(BadInput):
        run_stage(tmp_path, monkeypatch, path=str(root), test_share=0.3)
    assert (output / "train/shard-00000.tar").read_bytes() == before

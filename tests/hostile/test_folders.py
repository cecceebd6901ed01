"""Folders of photos with odd entries and odd names.

Nothing hangs, nothing is written elsewhere, and a folder is refused before anything is written.
"""

import os
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stages.datasets.images import encode_images
from stages.datasets.names import visible_form
from stages.export import export, folder_names
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes, write_classes
from stages.shared.tables import encode_png, write_table
from tests.hostile.test_images import RED, in_time
from tests.stages.test_download import photos, read, run_stage, save
from tests.support import report_workspace

HTML = "<img src=x onerror=alert(1)>"
ODD_NAMES = [
    HTML, "-rf", "con", "'quoted' \"twice\"", "🐦🦜", "a" * 200, "ü" * 120, "h..idden?",
    "{{ 7 * 7 }}", "$(touch x)", "Jay", "jay", "=1+1", "a,b;c", "&amp;", "x.jpg", "null", "NA",
    "%2e%2e",
]  # fmt: skip


@pytest.fixture(autouse=True)
def release_pipes(tmp_path):
    """End what still waits at a pipe, so that a test that fails does not hang as well."""
    yield

    for path in tmp_path.rglob("*"):
        if path.is_fifo():
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))


def refusal(root: Path) -> str:
    with pytest.raises(BadInput) as error:
        in_time(read, root)

    assert str(error.value).isprintable()
    return str(error.value)


def make_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def make_loop(path: Path) -> None:
    path.symlink_to(path)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_dangling, make_loop, make_pipe, make_device])
@pytest.mark.parametrize("part", ["train", "test"])
def test_what_is_no_file_is_refused_and_nothing_hangs(tmp_path, make, part):
    path = photos(tmp_path) / part / "cat/9.jpg"
    make(path)
    assert refusal(tmp_path) == f"{path}: is not a file; remove or replace it"


def test_a_link_to_a_photo_is_the_photo(tmp_path):
    photos(tmp_path / "photos")
    save(tmp_path / "elsewhere.png", RED)
    (tmp_path / "photos/train/cat/2.png").symlink_to(tmp_path / "elsewhere.png")

    images = list(read(tmp_path / "photos").splits["train"].images)

    assert images[2] == (tmp_path / "elsewhere.png").read_bytes()


def test_a_folder_called_like_an_image_and_links_that_are_no_class_are_left_out(tmp_path):
    photos(tmp_path)
    (tmp_path / "train/cat/x.jpg").mkdir()
    make_loop(tmp_path / "train/loop")
    make_dangling(tmp_path / "train/gone")

    dataset = read(tmp_path)

    assert dataset.classes == ["cat", "dog"]
    assert len(dataset.splits["train"].rows) == 4


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.jpg", "a\x1b[31m.jpg", b"\xff\xfe.jpg", f"{HTML}.jpg".replace("/", ""), "🐦.jpg",
        "-x.jpg",
    ],
)  # fmt: skip
def test_a_broken_file_of_any_name_is_named_in_one_line(tmp_path, name):
    folder = photos(tmp_path) / "train/cat"
    path_of(folder, name).write_text("no image")

    line = refusal(tmp_path)

    reason = "is not a readable image (cannot identify its format); remove or replace it"
    assert f"{folder}/" in line
    assert line.endswith(f".jpg: {reason}")


def path_of(folder: Path, name: str | bytes) -> Path:
    """A file's path where its name may be no text."""
    return Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))


@pytest.mark.parametrize(
    "name", ["a\nb.png", b"\xff\xfe.png", f"{HTML}.png", "🐦.png", "-x.png", "é" * 120 + ".png"]
)
def test_a_good_file_of_any_name_is_taken(tmp_path, name):
    folder = photos(tmp_path) / "train/cat"
    (folder / "0.png").rename(path_of(folder, name))
    assert len(list(read(tmp_path).splits["train"].images)) == 4


@pytest.mark.parametrize("name", ["do\ng", "do\x7fg", b"do\xffg", "do\u2028g", "do\x85g"])
def test_a_class_whose_name_is_no_text_is_refused(tmp_path, name):
    train = os.fsencode(photos(tmp_path) / "train")
    os.rename(train + b"/dog", train + b"/" + os.fsencode(name))
    assert "the name has unprintable characters; rename the folder" in refusal(tmp_path)


def test_two_classes_that_look_alike_are_refused(tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    line = refusal(photos(tmp_path, names=(composed, decomposed)))
    assert "looks like another class ('Cafe\\u0301', 'Caf\\xe9'); rename the folder" in line


@pytest.mark.parametrize(
    "twin",
    [
        "dog ", " dog", "d\u200bog", "dog\ufe0f", "do\u00adg", "dog\u3000", "do\u034fg",
        "dog\u115f", "dog\u1160", "dog\u17b4", "dog\u180b", "dog\u180f", "dog\u2800", "dog\u3164",
        "dog\uffa0", "dog\U000e0100", "dog\U000e01ef",
    ],
)  # fmt: skip
def test_a_class_that_differs_in_what_nobody_sees_is_refused(tmp_path, twin):
    line = refusal(photos(tmp_path, names=("dog", twin)))
    assert "looks like another class" in line
    assert ascii(twin) in line


def test_a_joiner_between_a_letter_and_its_accent_is_not_seen():
    assert visible_form("Cafe\u034f\u0301") == visible_form("Café")


@pytest.mark.parametrize(
    ("spelled", "names"),
    [(unicodedata.normalize("NFD", "Café"), ("Café", "dog")), ("dog ", ("cat", "dog"))],
)
def test_a_class_of_test_that_is_spelled_otherwise_than_train_s_is_told(tmp_path, spelled, names):
    """As a Mac spells what it unpacks: both names look the same."""
    name = unicodedata.normalize("NFC", spelled).strip()
    photos(tmp_path, names=names)
    (tmp_path / "test" / name).rename(tmp_path / "test" / spelled)

    assert refusal(tmp_path) == (
        f"{tmp_path}/test/{spelled}: looks like a class of train, but is spelled {spelled!a} "
        f"instead of {name!a}; rename the folder"
    )


@pytest.mark.parametrize("names", [("dog", "d og"), ("dog", "Dog"), ("é", "e"), ("a b", "a  c")])
def test_classes_that_a_reader_can_tell_apart_are_two(tmp_path, names):
    assert sorted(read(photos(tmp_path, names=names)).classes) == sorted(names)


@pytest.mark.parametrize("link", ["train", "test", "train/dog", "test/dog"])
def test_a_link_to_a_folder_is_refused_since_dvc_does_not_look_into_it(tmp_path, link):
    path = photos(tmp_path / "photos") / link
    path.rename(tmp_path / "disk")
    path.symlink_to(tmp_path / "disk")

    line = refusal(tmp_path / "photos")
    assert line.startswith(f"{path}: is a link to a folder, whose changes DVC does not see; name")


@pytest.mark.parametrize("place", ["", "train", "test", "train/dog"])
@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "#recycle", ".Trashes"])
def test_what_systems_leave_behind_is_no_class(tmp_path, place, name, caplog):
    clean = read(photos(tmp_path))
    save(tmp_path / place / name / "x.png")
    save(tmp_path / place / name / "SYNOPHOTO_THUMB_M.jpg")
    (tmp_path / "train/cat/Thumbs.db").write_bytes(b"0")
    cluttered = read(tmp_path)

    assert cluttered.classes == clean.classes
    assert len(cluttered.splits["train"].rows) == len(clean.splits["train"].rows)
    assert not caplog.records


def test_pictures_in_train_and_test_are_warned_of_once(tmp_path, caplog):
    """The same file, and the same pixels in another file of another class."""
    root = photos(tmp_path)
    (root / "test/dog/x.png").write_bytes((root / "train/cat/0.png").read_bytes())
    save(root / "test/cat/y.webp", (0, 1, 0), lossless=True)  # the pixels of train/cat/1.png
    read(root)

    (record,) = caplog.records
    line = record.getMessage()
    assert f"{root}/train/cat/1.png and {root}/test/cat/y.webp: are one picture" in line
    assert "(2 of 4 test images are in train)" in line


def test_files_that_differ_in_case_or_in_spelling_alone_are_all_taken(tmp_path):
    photos(tmp_path)
    accented = [unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD")]
    for name in ("A.png", "a.png", "a.PNG", *accented):
        save(tmp_path / "train/cat" / name)

    assert read(tmp_path).splits["train"].rows["label"].tolist() == [0] * 7 + [1] * 2


@pytest.mark.parametrize(
    "path", ["x" * 5000, "~no-such-user/photos", "a/" * 2000, "/dev/null", "/proc/self/mem"]
)
def test_a_path_that_cannot_be_one_is_refused(path):
    with pytest.raises(BadInput, match=r"^params.yaml: data.folder.path: there is no folder"):
        read(Path(path))


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    def denied(folder: Path):
        raise PermissionError(13, "Permission denied", str(folder))

    photos(tmp_path)
    monkeypatch.setattr(Path, "iterdir", denied)

    reason = "cannot be read (Permission denied); make it readable, or remove it"
    assert refusal(tmp_path).endswith(f"train: {reason}")


def test_a_photo_that_is_spoilt_after_the_check_is_named(tmp_path):
    images = read(photos(tmp_path)).splits["train"].images
    (tmp_path / "train/cat/1.png").write_text("no image")

    with pytest.raises(BadInput, match=r"train/cat/1\.png: is not a readable image"):
        list(images)


def test_a_photo_that_is_gone_after_the_check_is_named(tmp_path):
    path = save(tmp_path / "a.png")
    path.unlink()

    with pytest.raises(BadInput, match=r"a\.png: is not a file"):
        list(encode_images([path]))


@pytest.mark.parametrize("make", [make_dangling, make_pipe])
def test_nothing_is_written_before_a_refusal(tmp_path, monkeypatch, make):
    make(photos(tmp_path / "photos") / "test/dog/9.jpg")
    options = {"path": str(tmp_path / "photos"), "test_share": 0.3}

    with pytest.raises(BadInput):
        in_time(lambda: run_stage(tmp_path, monkeypatch, **options))

    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.rglob("*.tar"))


def test_odd_class_names_stay_inside_the_tables(tmp_path, monkeypatch):
    root = photos(tmp_path / "photos", names=ODD_NAMES, train=1)

    output = run_stage(tmp_path, monkeypatch, path=str(root), test_share=0.3)

    assert read_classes(output)["name"].tolist() == sorted(ODD_NAMES)
    names = {"manifest.csv", "classes.csv", "shard-00000.tar"}
    assert {path.name for path in output.rglob("*") if path.is_file()} == names


@pytest.mark.parametrize(
    "name", [*ODD_NAMES, "..", ".", "", "/etc/passwd", "../../x", "a" * 255, "ü" * 127, "NUL.txt"]
)
def test_export_puts_a_class_of_any_name_into_a_folder_of_its_own(tmp_path, name):
    picture = encode_png(Image.new("RGB", (4, 4)))
    write_table(tmp_path / "data/download/train", [picture] * 2, pd.DataFrame({"label": [0, 1]}))
    write_classes(tmp_path / "data/download", [name, "other"], "bird")
    before = set(tmp_path.rglob("*"))

    export(tmp_path / "data/download/train", tmp_path / "out")

    new_files = [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]
    new_files.remove(tmp_path / "out/metadata.jsonl")
    parts = [path.relative_to(tmp_path).parts for path in new_files]
    assert [(len(names), names[0]) for names in parts] == [(3, "out")] * 2
    assert sorted(names[2] for names in parts) == ["00000000.png", "00000001.png"]


def test_names_reserved_by_a_system_or_too_long_are_numbered():
    assert folder_names(["con", "Aux.old", "conger"]) == ["0000__", "0001__.old", "0002_conger"]
    assert folder_names(["ü" * 127, "b"]) == [f"0000_{'ü' * 100}", "0001_b"]


def test_export_refuses_a_key_that_leads_elsewhere(tmp_path):
    table = tmp_path / "data/download/train"
    write_table(table, [encode_png(Image.new("RGB", (4, 4)))], pd.DataFrame({"label": [0]}))
    write_classes(tmp_path / "data/download", ["a"], "bird")
    manifest = table / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("00000000", "../../../evil"))

    message = r"manifest\.csv: key '\.\./\.\./\.\./evil' cannot be a file's name"
    with pytest.raises(BadInput, match=message):
        export(table, tmp_path / "out")

    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [HTML, '"><script>alert(1)</script>', "{{ 7 * 7 }}", "javascript:alert(1)", "' onload='x"],
)
def test_a_class_name_is_inert_in_the_report(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report_workspace, "NAMES", ["plain", name, "🐦" * 100])

    page = report_workspace.make_page()

    shown = name
    entities = [("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")]
    for character, entity in entities:
        shown = shown.replace(character, entity)
    assert f'alt="real {shown}"' in page
    if shown != name:
        assert name not in page

    files = {path.name for path in tmp_path.rglob("*")}
    assert not any("alert" in file or "onload" in file or "7" in file for file in files)

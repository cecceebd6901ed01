"""Tables come out as a folder per class, whatever the classes are called."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stages.datasets.folder import read_folder
from stages.download import write_dataset
from stages.export import export, folder_names
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes, read_manifest, write_classes
from stages.shared.schemas.download import Folder
from stages.shared.tables import encode_png, write_csv, write_table

NAMES = [
    " lead", "Grünspecht 鳥", "NA", "a, b", "a_b", "golden retriever", "it's", "null", 'say "hi"',
    "trail ",
]  # fmt: skip


def picture(value: int) -> bytes:
    return encode_png(Image.new("RGB", (4, 4), (value, 0, 0)))


def download(data: Path, names: list[str], labels: list[int]) -> Path:
    """Write a training table of distinct pictures, with its classes; returns its folder."""
    folder = data / "download/train"
    write_table(folder, map(picture, range(len(labels))), pd.DataFrame({"label": labels}))
    write_classes(data / "download", names, "bird")
    return folder


def exported(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_plain_names_are_the_folders(tmp_path):
    export(download(tmp_path / "data", ["red kite", "jay"], [0, 1, 0]), tmp_path / "out")
    assert exported(tmp_path / "out") == {
        "red kite/00000000.png": picture(0),
        "jay/00000001.png": picture(1),
        "red kite/00000002.png": picture(2),
    }


@pytest.mark.parametrize(
    ("names", "folders"),
    [
        (["AC/DC", "plain"], ["0000_AC_DC", "0001_plain"]),
        (["..", "a:b"], ["0000___", "0001_a_b"]),
        (["Jay", "jay"], ["0000_Jay", "0001_jay"]),
        ([" lead", "trail "], ["0000__lead", "0001_trail_"]),
    ],
)
def test_names_that_no_folder_can_have_are_numbered_and_cleaned(names, folders):
    assert folder_names(names) == folders


def test_odd_class_names_go_from_folder_to_table_to_folder(tmp_path):
    for label, name in enumerate(NAMES):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            (tmp_path / "photos" / split / name / "0.png").write_bytes(picture(label))

    dataset = read_folder(Folder(path=str(tmp_path / "photos"), test_share=0.3))
    write_dataset(dataset, "bird", tmp_path / "data/download")
    export(tmp_path / "data/download/train", tmp_path / "out")

    assert read_classes(tmp_path / "data/download")["name"].tolist() == NAMES

    folders = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert [name[:4] for name in folders] == [f"{label:04d}" for label in range(len(NAMES))]
    assert folders[5] == "0005_golden retriever"

    for label, name in enumerate(folders):
        content = (tmp_path / "out" / name / f"{label:08d}.png").read_bytes()
        assert content == picture(label)


@pytest.mark.parametrize(
    ("selection", "origin"), [("subsample", "download/train"), ("filter", "synthesize")]
)
def test_a_table_that_only_chooses_rows_takes_the_images_of_the_other(tmp_path, selection, origin):
    data = tmp_path / "data"
    download(data, ["a", "b"], [0, 1, 1])
    write_table(data / "synthesize", map(picture, range(3)), pd.DataFrame({"label": [0, 1, 1]}))
    (data / selection).mkdir()
    write_csv(data / selection / "manifest.csv", read_manifest(data / origin).iloc[[2]])

    export(data / selection, tmp_path / "out")

    assert exported(tmp_path / "out") == {"b/00000002.png": picture(2)}


def test_a_folder_in_use_is_refused(tmp_path):
    table = download(tmp_path / "data", ["a"], [0])
    with pytest.raises(BadInput, match="data: is not an empty folder; name a new one"):
        export(table, tmp_path / "data")


def test_a_folder_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"manifest\.csv: there is no such table"):
        export(tmp_path, tmp_path / "out")

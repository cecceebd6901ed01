"""Tables come out as a folder per class, whatever the classes are called, and others load them."""

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2.functional import pil_to_tensor

from stages.datasets.folder import read_folder
from stages.download import write_dataset
from stages.export import export, folder_names
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.manifests import read_classes, read_manifest, write_classes
from stages.shared.schemas.download import Folder
from stages.shared.tables import encode_png, write_csv, write_table
from tests.support.closure import ROOT

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


# a mixed image, one whose source is of its own class, and one from noise; 0.25 ** 0.5 is exact
MADE = pd.DataFrame(
    {
        "label": [0, 1, 1],
        "source_key": ["00000001", "00000001", ""],
        "source_label": [1, 1, -1],
        "target_label": [0, 1, 1],
        "strength": [0.25, 0.25, 1.0],
        "seed": [7, 8, 9],
    }
)
SCORES = [0.875, 0.5, 0.0625]
LINES: list[dict[str, Any]] = [
    {"label": "red kite", "target": "red kite", "source": "jay", "strength": 0.25, "weight": 0.5,
     "seed": 7, "score": 0.875},
    {"label": "jay", "target": "jay", "source": "jay", "strength": 0.25, "weight": 1.0,
     "seed": 8, "score": 0.5},
    {"label": "jay", "target": "jay", "source": None, "strength": 1.0, "weight": 1.0,
     "seed": 9, "score": 0.0625},
]  # fmt: skip
FILES = ["red kite/00000000.png", "jay/00000001.png", "jay/00000002.png"]


def synthesized(
    data: Path, rows: pd.DataFrame = MADE, gamma: float | list[float] = 0.5, strengths=(0.25, 1.0)
) -> Path:
    """Write two classes, synthetic images and what labels them; returns the table's folder."""
    download(data, ["red kite", "jay"], [0, 1])
    write_table(data / "synthesize", map(picture, range(len(rows))), rows)
    write_json(data / "method/plan.json", {"mode": "mix", "strength": list(strengths)})
    (data.parent / "params.yaml").write_text(f"synth: {{gamma: {gamma}}}\n")
    return data / "synthesize"


def filtered(data: Path) -> Path:
    """Write synthetic images of which the filter keeps all; returns its folder."""
    rows = read_manifest(synthesized(data)).assign(score=SCORES)
    write_csv(data / "filter/manifest.csv", rows)
    return data / "filter"


def exported(folder: Path) -> dict[str, bytes]:
    """The images in it."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "metadata.jsonl"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def metadata(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metadata.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


@pytest.fixture
def hub_is_away(tmp_path, monkeypatch):
    """Hugging Face's library, without a network and with a cache of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return datasets


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
        (["train", "bus"], ["0000_(train)", "0001_bus"]),
        (["Test-bird 2", "trainer"], ["0000_(Test)-bird 2", "0001_trainer"]),
        (["metadata.jsonl", "b"], ["0000__", "0001_b"]),
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

    folders = sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir())
    assert [name[:4] for name in folders] == [f"{label:04d}" for label in range(len(NAMES))]
    assert folders[5] == "0005_golden retriever"
    assert [line["label"] for line in metadata(tmp_path / "out")] == NAMES

    for label, name in enumerate(folders):
        content = (tmp_path / "out" / name / f"{label:08d}.png").read_bytes()
        assert content == picture(label)


@pytest.mark.parametrize(
    ("selection", "origin"), [("subsample", "download/train"), ("filter", "synthesize")]
)
def test_a_table_that_only_chooses_rows_takes_the_images_of_the_other(tmp_path, selection, origin):
    data = tmp_path / "data"
    synthesized(data)
    write_csv(data / selection / "manifest.csv", read_manifest(data / origin).iloc[[1]])

    export(data / selection, tmp_path / "out")

    assert exported(tmp_path / "out") == {"jay/00000001.png": picture(1)}
    assert [line["file_name"] for line in metadata(tmp_path / "out")] == ["jay/00000001.png"]


def test_real_images_are_described_by_file_and_class(tmp_path):
    export(download(tmp_path / "data", ["red kite", "jay"], [0, 1]), tmp_path / "out")
    assert metadata(tmp_path / "out") == [
        {"file_name": "red kite/00000000.png", "label": "red kite"},
        {"file_name": "jay/00000001.png", "label": "jay"},
    ]


def test_images_of_waterbird_have_their_group(tmp_path):
    table = download(tmp_path / "data", ["red kite", "jay"], [0, 1]).with_name("ood")
    rows = pd.DataFrame({"label": [0, 1], "group": ["waterbird_land", "landbird_land"]})
    write_table(table, map(picture, range(2)), rows)

    export(table, tmp_path / "out")
    assert [line["group"] for line in metadata(tmp_path / "out")] == list(rows["group"])


def test_synthetic_images_are_described_by_all_that_is_known_of_them(tmp_path):
    export(filtered(tmp_path / "data"), tmp_path / "out")
    files = [{"file_name": name} for name in FILES]
    assert metadata(tmp_path / "out") == [
        file | line for file, line in zip(files, LINES, strict=True)
    ]


def test_only_what_the_filter_has_seen_has_a_score(tmp_path):
    export(synthesized(tmp_path / "data"), tmp_path / "out")
    assert [set(LINES[0]) - set(line) for line in metadata(tmp_path / "out")] == [{"score"}] * 3


@pytest.mark.parametrize(
    ("gamma", "weights"),
    [
        (0.5, [0.7071067811865476, 0.9486832980505138]),  # the roots of 0.5 and 0.9
        ([1.0, 2.0, 0.0], [0.5, 1.0]),  # of the method's three strengths, of which two were drawn
    ],
)
def test_weights_are_the_strengths_to_the_power_of_gamma(tmp_path, gamma, weights):
    rows = MADE.head(2).assign(source_label=[1, 0], strength=[0.5, 0.9])
    export(synthesized(tmp_path / "data", rows, gamma, (0.5, 0.7, 0.9)), tmp_path / "out")
    assert [line["weight"] for line in metadata(tmp_path / "out")] == pytest.approx(weights)


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("params.yaml", r"params\.yaml: cannot be read"),
        ("data/method/plan.json", r"plan\.json: there is no such file; run `dvc repro method`"),
    ],
)
def test_weights_that_cannot_be_known_are_refused_before_anything_is_written(
    tmp_path, missing, line
):
    table = synthesized(tmp_path / "data")
    (tmp_path / missing).unlink()
    with pytest.raises(BadInput, match=line):
        export(table, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_without_a_class_is_refused(tmp_path):
    table = synthesized(tmp_path / "data", MADE.assign(source_label=[1, 2, -1]))
    with pytest.raises(BadInput, match=r"label 2 has no name in classes\.csv"):
        export(table, tmp_path / "out")


def test_hugging_face_loads_a_row_of_each_line(tmp_path, hub_is_away):
    folder = tmp_path / "train/synthetic"  # whose parent has a split's name
    export(filtered(tmp_path / "data"), folder)
    loaded = hub_is_away.load_dataset("imagefolder", data_dir=str(folder), split="train")

    images = [encode_png(image) for image in loaded["image"]]
    assert images == [picture(0), picture(1), picture(2)]
    assert loaded.remove_columns("image").to_list() == LINES


def test_hugging_face_loads_images_without_a_source(tmp_path, hub_is_away):
    table = synthesized(tmp_path / "data", MADE.tail(1))
    export(table, tmp_path / "out")
    loaded = hub_is_away.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), split="train")
    assert loaded["source"][:] == [None]


def test_a_class_called_as_a_split_hides_no_other(tmp_path, hub_is_away):
    from timm.data import create_dataset

    names = ["train", "bus", "val 2"]
    export(download(tmp_path / "data", names, [0, 1, 2, 1]), tmp_path / "out")

    splits = hub_is_away.load_dataset("imagefolder", data_dir=str(tmp_path / "out"))
    assert {split: rows["label"][:] for split, rows in splits.items()} == {
        "train": ["train", "bus", "val 2", "bus"]
    }
    for split in ("train", "validation"):
        assert len(create_dataset("", root=str(tmp_path / "out"), split=split)) == 4


def test_torchvision_finds_classes_by_folder(tmp_path):
    export(filtered(tmp_path / "data"), tmp_path / "out")
    found = ImageFolder(tmp_path / "out")

    assert found.class_to_idx == {"jay": 0, "red kite": 1}
    assert [(encode_png(image), label) for image, label in found] == [
        (picture(1), 0), (picture(2), 0), (picture(0), 1),
    ]  # fmt: skip


def test_timm_joins_real_and_synthetic_images_of_a_class(tmp_path):
    """As docs/using-the-results.md has it: its classes are the innermost folders."""
    from timm.data import create_dataset

    data = tmp_path / "data"
    export(filtered(data), tmp_path / "out/images/train/synthetic")
    export(data / "download/train", tmp_path / "out/images/train/real")
    found = create_dataset("", root=str(tmp_path / "out/images"), split="train")

    assert found.reader.class_to_idx == {"jay": 0, "red kite": 1}
    assert sorted((encode_png(image), label) for image, label in found) == sorted(
        [(picture(0), 1), (picture(1), 0), (picture(0), 1), (picture(1), 0), (picture(2), 0)]
    )


@pytest.mark.usefixtures("hub_is_away")
def test_the_code_of_the_page_yields_images_with_soft_labels(tmp_path, monkeypatch):
    """A quarter to the power of a half goes to the kite, the other half to the jay."""
    monkeypatch.chdir(tmp_path)
    export(filtered(tmp_path / "data"), Path("out/images/train/synthetic"))
    export(Path("data/download/train"), Path("out/images/train/real"))

    page = (ROOT / "docs/using-the-results.md").read_text().split("## The images")[1]
    found: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, found)

    arguments = (["red kite", "jay"], pil_to_tensor)
    synthetic = found["SoftLabelled"]("out/images/train/synthetic", *arguments)
    real = found["SoftLabelled"]("out/images/train/real", *arguments)
    labels = [label.tolist() for _, label in torch.utils.data.ConcatDataset([synthetic, real])]

    assert labels == [[0.5, 0.5], [0, 1], [0, 1], [1, 0], [0, 1]]
    assert [int(image[0, 0, 0]) for image, _ in synthetic] == [0, 1, 2]
    assert found["synthetic"]["weight"][:] == [0.5, 1.0, 1.0]


def test_a_folder_in_use_is_refused(tmp_path):
    table = download(tmp_path / "data", ["a"], [0])
    with pytest.raises(BadInput, match="data: is not an empty folder; name a new one"):
        export(table, tmp_path / "data")


def test_a_folder_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"manifest\.csv: there is no such table"):
        export(tmp_path, tmp_path / "out")

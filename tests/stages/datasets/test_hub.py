"""Datasets of the hub, read from a folder of parquet files in the hub's layout.

The library `datasets` is an extra: without it, what needs it is skipped.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import download
from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import Mirror
from stages.shared.errors import BadInput
from stages.shared.params import pick
from stages.shared.tables import Table
from tests.stages.datasets.test_published import Seen, params, split
from tests.support.archive_server import Site, serving
from tests.support.closure import ROOT
from tests.support.layouts import jpeg, save

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAMED = {"names": ["red_kite", "jay"], "_type": "ClassLabel"}


@pytest.fixture(autouse=True)
def archive_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path / "kept"))


def write(
    root: Path, labels: dict[str, list[Any]], feature: dict[str, Any], broken: bool = False
) -> Path:
    """Write data/<split>-00000-of-00001.parquet as `push_to_hub` does.

    The features are in the file's schema.
    """
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("datasets")
    from pyarrow import parquet

    features = {"picture": {"_type": "Image"}, "species": feature}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    (root / "data").mkdir(parents=True, exist_ok=True)

    for number, (name, values) in enumerate(labels.items()):
        images = [
            {"bytes": b"\xff\xd8" if broken else jpeg(k, 10 * number), "path": f"{k}.jpg"}
            for k in range(len(values))
        ]
        table = pyarrow.table({"picture": images, "species": values})
        table = table.replace_schema_metadata(metadata)
        parquet.write_table(table, root / f"data/{name}-00000-of-00001.parquet")

    return root


def hub(**changes: Any) -> dict[str, Any]:
    names = {"id": "someone/birds", "revision": COMMIT, "image": "picture", "label": "species"}
    return names | {"train": "train", "test": "test"} | changes


def read(archive: Path | None, **changes: Any) -> Dataset:
    data = pick(download.Params, params(name="hub", hub=hub(**changes))).data
    return download.READERS["hub"](data, Mirror(archive=str(archive) if archive else None))


def refusal(archive: Path | None, **changes: Any) -> str:
    with pytest.raises(BadInput) as caught:
        read(archive, **changes)

    line = str(caught.value)
    assert "\n" not in line
    return line


def test_classes_are_called_as_the_dataset_says(tmp_path):
    dataset = read(write(tmp_path / "hub", {"train": [1, 0, 1], "test": [0]}, NAMED))

    assert dataset.classes == ["red kite", "jay"]
    assert split(dataset, "train") == Seen([1, 0, 1], [jpeg(k) for k in range(3)])
    assert split(dataset, "test") == Seen([0], [jpeg(0, 10)])


def test_plain_values_become_classes_in_order(tmp_path):
    words = {"dtype": "string", "_type": "Value"}
    dataset = read(write(tmp_path / "hub", {"train": ["jay", "emu"], "test": ["emu"]}, words))

    assert dataset.classes == ["emu", "jay"]
    assert split(dataset, "train").labels == [1, 0]


def test_images_that_lie_in_files_of_their_own_are_read_too(tmp_path):
    pytest.importorskip("datasets")
    files = {
        f"{part}/{name}/1.jpg": jpeg(k)
        for k, name in enumerate(("emu", "jay"))
        for part in ("train", "test")
    }
    dataset = read(save(tmp_path / "hub", files), image="image", label="label")

    assert dataset.classes == ["emu", "jay"]
    assert split(dataset, "train") == Seen([0, 1], [jpeg(0), jpeg(1)])


def test_a_slice_makes_a_test_split_where_there_is_none(tmp_path):
    root = write(tmp_path / "hub", {"train": [1, 0, 1, 0]}, NAMED)
    dataset = read(root, train="train[:75%]", test="train[75%:]")
    assert [split(dataset, name).labels for name in ("train", "test")] == [[1, 0, 1], [0]]


def test_a_class_that_train_lacks_is_refused(tmp_path):
    numbers = {"dtype": "int64", "_type": "Value"}
    root = write(tmp_path / "hub", {"train": [3, 4], "test": [5]}, numbers)
    assert refusal(root) == "params.yaml: data.hub.label: test has 5, a class that train lacks"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"image": "photo"}, "params.yaml: data.hub: no column photo; choose of picture, species"),
        ({"label": "kind"}, "params.yaml: data.hub: no column kind; choose of picture, species"),
        (
            {"image": "species"},
            "params.yaml: data.hub.image: column species holds no images; name the one that does",
        ),
        (
            {"test": "validation"},
            f"params.yaml: data.hub: someone/birds at {COMMIT}: validation cannot be fetched",
        ),
    ],
)
def test_a_column_or_a_split_that_is_not_there_is_named(tmp_path, changes, line):
    root = write(tmp_path / "hub", {"train": [1, 0], "test": [0]}, NAMED)
    assert refusal(root, **changes).startswith(line)


def test_a_broken_image_is_named_by_its_row(tmp_path):
    root = write(tmp_path / "hub", {"train": [1], "test": [0]}, NAMED, broken=True)

    assert refusal(root).startswith(
        "params.yaml: data.hub: row 0 of split train: is not a readable image"
    )


def test_the_folder_of_the_first_use_is_held_to(tmp_path):
    root = write(tmp_path / "hub", {"train": [1, 0], "test": [0]}, NAMED)
    read(root)
    write(root, {"test": [1]}, NAMED)

    line = refusal(root)
    record = tmp_path / f"kept/someone--birds@{COMMIT}.checksum"
    assert line.startswith(f"{root}: its checksum is sha256:")
    assert line.endswith(f"; if the recorded one is wrong, remove it from {record}")


def test_a_folder_that_could_not_be_read_does_not_bar_the_good_one(tmp_path):
    labels = {"train": [1, 0], "test": [0]}
    assert "is not a readable image" in refusal(write(tmp_path / "hub", labels, NAMED, broken=True))

    assert read(write(tmp_path / "hub", labels, NAMED)).classes == ["red kite", "jay"]


def test_an_underscore_stays_where_a_space_would_make_two_classes_one(tmp_path):
    feature = NAMED | {"names": ["a_b", "a b", "c_d"]}
    dataset = read(write(tmp_path / "hub", {"train": [0, 1, 2], "test": [0]}, feature))
    assert dataset.classes == ["a_b", "a b", "c d"]


@pytest.mark.parametrize(
    ("names", "line"),
    [
        (
            ["jay", "jay\u200b"],
            r"class jay\u200b: looks like another class ('jay', 'jay\u200b'); rename it in a copy",
        ),
        (
            ["jay", "e\nmu"],
            r"class e\nmu': the name has unprintable characters; rename it in a copy",
        ),
    ],
)
def test_names_that_people_cannot_tell_apart_are_refused(tmp_path, names, line):
    root = write(tmp_path / "hub", {"train": [1, 0], "test": [0]}, NAMED | {"names": names})
    assert line in refusal(root)


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper()])
def test_a_revision_that_may_move_is_refused(revision):
    line = (
        "params.yaml: data.hub.revision: a branch or a tag moves; "
        r"give the 40 hex digits of a commit \(it is '"
    )

    with pytest.raises(BadInput, match=line):
        read(None, revision=revision)


@pytest.mark.parametrize("leaf", ["id", "revision", "image", "label", "train", "test"])
def test_what_is_not_set_is_named(leaf):
    line = f"params.yaml: data: hub.{leaf} is null; a dataset of the hub needs"
    with pytest.raises(BadInput, match=line):
        read(None, **{leaf: None})


def publish(site: Site, root: Path) -> None:
    """Serve a folder as the hub serves a dataset's commit: its record, its tree and its files."""
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.parquet"))

    record = {
        "_id": "1",
        "id": "someone/birds",
        "sha": COMMIT,
        "siblings": [{"rfilename": name} for name in files],
    }
    site.files[f"api/datasets/someone/birds/revision/{COMMIT}"] = json.dumps(record).encode()

    top = [{"type": "directory", "oid": "b" * 40, "size": 0, "path": "data"}]
    entries = [
        {"type": "file", "oid": "a" * 40, "size": (root / name).stat().st_size, "path": name}
        for name in files
    ]
    tree = f"api/datasets/someone/birds/tree/{COMMIT}"
    for folder, listed in (("", top), ("/data", entries)):
        site.files[f"{tree}{folder}?recursive=false&expand=false"] = json.dumps(listed).encode()

    for name in files:
        site.files[f"datasets/someone/birds/resolve/{COMMIT}/{name}"] = (root / name).read_bytes()
    site.headers = {"ETag": '"1"', "X-Repo-Commit": COMMIT, "X-Error-Code": "EntryNotFound"}


def run_stage(folder: Path, url: str) -> subprocess.CompletedProcess:
    """In a process of its own: the library reads the hub's address when it is imported."""
    (folder / "params.yaml").write_text(yaml.safe_dump(params(name="hub", hub=hub(), url=url)))

    command = [sys.executable, "-m", "stages.download"]
    variables = os.environ | {"PYTHONPATH": str(ROOT), "HF_HOME": str(folder / "home")}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def test_the_library_fetches_the_commit_from_a_hub(tmp_path):
    root = write(tmp_path / "hub", {"train": [1, 0, 1], "test": [0]}, NAMED)
    with serving() as site:
        publish(site, root)
        done = run_stage(tmp_path, site.url)

    assert done.returncode == 0, done.stderr
    assert Table(tmp_path / "data/download/train").rows["label"].tolist() == [1, 0, 1]

    resolved = [path for path, _ in site.requests if "/resolve/" in path]
    assert resolved
    assert all(f"/resolve/{COMMIT}/" in path for path in resolved)


def test_a_hub_without_the_dataset_says_so_in_one_line(tmp_path):
    pytest.importorskip("datasets")
    with serving() as site:
        done = run_stage(tmp_path, site.url)

    line = done.stderr.strip().splitlines()[-1]
    expected = f"params.yaml: data.hub: someone/birds at {COMMIT}: train cannot be fetched"
    assert done.returncode == 1
    assert line.startswith(expected)
    assert "Traceback" not in done.stderr


def test_a_folder_of_the_datasets_name_is_not_taken_for_the_commit(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    (tmp_path / "someone/birds").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert refusal(None).startswith(
        "params.yaml: data.hub.id: someone/birds is a folder here; name it at data.archive"
    )


def test_a_missing_library_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    line = "params.yaml: data.name: hub needs `pip install datasets`; or take another dataset"
    assert refusal(None) == line


def test_a_missing_folder_names_the_parameter(tmp_path):
    pytest.importorskip("datasets")
    assert refusal(tmp_path / "no").startswith(
        f"params.yaml: data.archive: there is no folder {tmp_path}/no"
    )

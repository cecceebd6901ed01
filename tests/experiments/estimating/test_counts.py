"""What a setting has to do: images by hand, by Table 8, and as data/ has them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments.estimating.counts import count, made
from experiments.tables.recipes import Changes
from stages.shared.errors import BadInput
from stages.shared.params import read
from stages.shared.tables import write_classes
from tests.support.closure import ROOT
from tests.support.made_up_rates import HERE, changed

FEW_SHOT: Changes = {"data.name": "cub", "subset.mode": "few-shot", "subset.shots": 5}
LONG_TAIL: Changes = {
    "data.name": "cub",
    "subset.mode": "long-tail",
    "subset.imbalance_factor": 100,
}


def test_five_shot_cub_makes_5000_images_of_1000():
    counts = count(changed(FEW_SHOT), HERE)
    assert (len(counts.images.per_class), counts.rows, len(counts.plan)) == (200, 1000, 5000)
    assert (counts.images.test, counts.images.ood) == (5794, 0)
    assert set(counts.plan["target_label"].value_counts()) == {25}


def test_a_long_tail_is_synthesised_in_reverse():
    """Table 10's 1,242 images at rho = 100, from int(29.97) = 29 down to 1; synthetic ones from 5 up to 145."""
    counts = count(changed(LONG_TAIL), HERE)
    made_of = counts.plan["target_label"].value_counts()
    assert (counts.rows, len(counts.plan), made_of[0], made_of[199]) == (1242, 5 * 1242, 5, 145)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("cub", (200, 5994, 5794)), ("aircraft", (100, 3334, 3333)), ("flowers", (102, 4070, 4119)),
        ("dogs", (120, 12000, 8580)), ("cars", (196, 8144, 8041)), ("pascal", (20, 1464, 1449)),
    ],
)  # fmt: skip
def test_published_datasets_have_table_8s_sizes(name, sizes):
    counts = count(changed({"data.name": name, "subset.mode": "full", "synth.multiplier": 1}), HERE)
    per_class = counts.images.per_class
    assert (len(per_class), counts.rows, counts.images.test) == sizes
    assert len(counts.plan) == sizes[1]
    assert np.ptp(per_class) <= 1


def test_waterbirds_are_the_ood_images():
    assert count(changed(FEW_SHOT | {"data.waterbirds": True}), HERE).images.ood == 5794


def test_toybirds_are_counted_by_their_parameters(tmp_path, monkeypatch):
    tree = changed(
        {
            "data.toybirds.train_per_class": 3,
            "data.toybirds.ood_per_group": 2,
            "subset.mode": "full",
        }
    )
    monkeypatch.chdir(tmp_path)
    counts = count(tree, HERE)
    assert (counts.rows, len(counts.plan), counts.images.test, counts.images.ood) == (
        36,
        180,
        720,
        8,
    )


def test_photos_are_counted_in_their_folder(tmp_path, monkeypatch):
    for place, number in (("train/cat", 3), ("train/dog", 7), ("test/cat", 2)):
        (tmp_path / "pets" / place).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / place / f"{index}.png")
    monkeypatch.chdir(tmp_path)
    tree = changed(
        {
            "data.name": "folder",
            "data.folder.path": "pets",
            "subset.mode": "few-shot",
            "subset.shots": 5,
        }
    )
    counts = count(tree, HERE)
    assert (list(counts.images.per_class), counts.rows, counts.images.test) == ([3, 7], 3 + 5, 2)


def test_a_dataset_of_the_hub_must_be_there_first():
    hub = {
        "id": "a/b",
        "revision": "0" * 40,
        "image": "image",
        "label": "label",
        "train": "train",
        "test": "test",
    }
    with pytest.raises(BadInput, match="run `dvc repro download`, then call again"):
        count(changed({"data.name": "hub", "data.hub": hub}), HERE)


def test_images_from_noise_refer_to_none():
    plan = count(changed(FEW_SHOT | {"method": "real-gen"}), HERE).plan
    assert set(plan["source_key"]) == {""}
    assert set(plan["strength"]) == {1.0}


def test_adjacent_classes_are_counted_without_clip():
    counts = count(
        changed(FEW_SHOT | {"synth.pairing": "adjacent", "synth.referable_classes": 2}), HERE
    )
    assert counts.plan.groupby("target_label")["source_label"].nunique().max() == 2


PRESETS = {path.stem: read(path) for path in sorted((ROOT / "presets").glob("*.yaml"))}


@pytest.mark.parametrize(
    "preset", [name for name, tree in PRESETS.items() if tree["data"]["name"] != "folder"]
)
def test_a_preset_makes_as_many_images_as_its_multiplier_says(preset):
    """Rounding moves no class by more than one."""
    tree = PRESETS[preset]
    counts = count(tree, HERE)
    assert abs(len(counts.plan) - tree["synth"]["multiplier"] * counts.rows) <= len(
        counts.images.per_class
    )
    assert 0 < counts.rows <= counts.images.per_class.sum()


@pytest.fixture
def workspace(tmp_path, monkeypatch, table) -> Path:
    """Six birds of three species in data/download, made with five-shot CUB's parameters, by dvc.lock."""
    data = tmp_path / "data/download"
    for split in ("train", "test", "ood"):
        shutil.copytree(table.folder, data / split)
    write_classes(data, ["a", "b", "c"], "bird")
    locked = {
        "outs": [{"path": "data/download"}],
        "params": {"params.yaml": {"data.name": "cub", "data.url": None}},
    }
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": {"download": locked}}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_data_of_the_same_parameters_is_counted_instead(workspace):
    counts = count(changed(FEW_SHOT | {"subset.shots": 1}), HERE)
    assert (list(counts.images.per_class), counts.rows, counts.images.test) == ([2, 2, 2], 3, 6)
    assert counts.images.stored == 3 * sum(len(photo) for photo in set(counts.images.photos))


def test_data_of_other_parameters_is_not_counted(workspace):
    assert not made(["download"], changed({"data.name": "dogs"}))
    assert not made(["download"], changed({"data.name": "cub", "data.url": "https://example.org"}))
    shutil.rmtree("data/download")
    assert not made(["download"], changed({"data.name": "cub"}))

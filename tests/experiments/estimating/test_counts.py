"""What a setting has to do: images by hand, by Table 8, and as data/ has them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from experiments.estimating.counts import count, is_downloaded
from experiments.tables.recipes import Changes
from stages.download import Params
from stages.shared.errors import BadInput
from stages.shared.manifests import write_classes
from stages.shared.params import leaves, lookup, read
from tests.support.closure import ROOT
from tests.support.made_up_rates import changed

FEW_SHOT: Changes = {"data.name": "cub", "subset.mode": "few-shot", "subset.shots": 5}
LONG_TAIL: Changes = {
    "data.name": "cub", "subset.mode": "long-tail", "subset.imbalance_factor": 100,
}  # fmt: skip
HUB = {
    "id": "a/b", "revision": "0" * 40, "image": "image", "label": "label",
    "train": "train", "test": "test",
}  # fmt: skip


def test_five_shot_cub_makes_5000_images_of_1000():
    counts = count(changed(FEW_SHOT))
    assert (len(counts.images.per_class), counts.rows, len(counts.plan)) == (200, 1000, 5000)
    assert (counts.images.test, counts.images.ood) == (5794, 0)
    assert set(counts.plan["target_label"].value_counts()) == {25}


def test_a_long_tail_is_synthesised_in_reverse():
    """Table 10's 1,242 images at rho = 100, from int(29.97) = 29 down to 1.

    The synthetic ones go from 5 up to 145.
    """
    counts = count(changed(LONG_TAIL))
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
    counts = count(changed({"data.name": name, "subset.mode": "full", "synth.multiplier": 1}))
    per_class = counts.images.per_class

    assert (len(per_class), counts.rows, counts.images.test) == sizes
    assert len(counts.plan) == sizes[1]
    assert np.ptp(per_class) <= 1


def test_an_archive_at_hand_need_not_be_fetched():
    fetched = count(changed(FEW_SHOT)).images
    assert fetched.archives == fetched.stored > 1e9
    assert count(changed(FEW_SHOT | {"data.archive": "archives"})).images.archives == 0


def test_waterbirds_are_the_ood_images():
    assert count(changed(FEW_SHOT | {"data.waterbirds": True})).images.ood == 5794


def test_toybirds_are_counted_by_their_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    toybirds = {"data.toybirds.train_per_class": 3, "data.toybirds.ood_per_group": 2}
    counts = count(changed(toybirds | {"subset.mode": "full"}))

    assert (counts.rows, len(counts.plan)) == (36, 180)
    assert (counts.images.test, counts.images.ood) == (3600, 8)


def test_photos_are_counted_in_their_folder(tmp_path, monkeypatch):
    for folder, number in (("train/cat", 3), ("train/dog", 7), ("test/cat", 2)):
        (tmp_path / "pets" / folder).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (8, 8)).save(tmp_path / "pets" / folder / f"{index}.png")

    monkeypatch.chdir(tmp_path)
    pets = {"data.name": "folder", "data.folder.path": "pets"}
    counts = count(changed(pets | {"subset.mode": "few-shot", "subset.shots": 5}))

    assert (list(counts.images.per_class), counts.rows, counts.images.test) == ([3, 7], 3 + 5, 2)


def test_a_dataset_of_the_hub_must_be_there_first():
    with pytest.raises(BadInput, match="run `dvc repro download`, then call again"):
        count(changed({"data.name": "hub", "data.hub": HUB}))


def test_images_from_noise_refer_to_none():
    plan = count(changed(FEW_SHOT | {"method": "real-gen"})).plan
    assert set(plan["source_key"]) == {""}
    assert set(plan["strength"]) == {1.0}


def test_adjacent_classes_are_counted_without_clip():
    pairing = {"synth.pairing": "adjacent", "synth.referable_classes": 2}
    plan = count(changed(FEW_SHOT | pairing)).plan
    assert plan.groupby("target_label")["source_label"].nunique().max() == 2


PRESETS = {path.stem: read(path) for path in sorted((ROOT / "presets").glob("*.yaml"))}


@pytest.mark.parametrize(
    "preset", [name for name, tree in PRESETS.items() if tree["data"]["name"] != "folder"]
)
def test_a_preset_makes_as_many_images_as_its_multiplier_says(preset):
    """Rounding moves no class by more than one."""
    tree = PRESETS[preset]
    counts = count(tree)
    classes = len(counts.images.per_class)

    assert abs(len(counts.plan) - tree["synth"]["multiplier"] * counts.rows) <= classes
    assert 0 < counts.rows <= counts.images.per_class.sum()


@pytest.fixture
def workspace(tmp_path, monkeypatch, table) -> Path:
    """Six birds of three species in data/download, by dvc.lock made with five-shot CUB's values."""
    data = tmp_path / "data/download"
    for split in ("train", "test", "ood"):
        shutil.copytree(table.folder, data / split)
    write_classes(data, ["a", "b", "c"], "bird")

    values = {path: lookup(changed(FEW_SHOT), path) for path in leaves(Params)}
    locked = {"download": {"params": {"params.yaml": values}}}
    (tmp_path / "dvc.lock").write_text(yaml.safe_dump({"stages": locked}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("workspace")
def test_data_of_the_same_parameters_is_counted_instead():
    counts = count(changed(FEW_SHOT | {"subset.shots": 1}))
    assert (list(counts.images.per_class), counts.rows, counts.images.test) == ([2, 2, 2], 3, 6)
    assert counts.images.stored == 3 * sum(len(photo) for photo in counts.images.photos)


@pytest.mark.usefixtures("workspace")
def test_data_of_other_parameters_is_not_counted():
    assert is_downloaded(changed({"data.name": "cub"}))
    assert not is_downloaded(changed({"data.name": "dogs"}))
    assert not is_downloaded(changed({"data.name": "cub", "data.url": "https://example.org"}))
    shutil.rmtree("data/download")

    assert not is_downloaded(changed({"data.name": "cub"}))

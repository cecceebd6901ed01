"""Each loader's counts against Table 8 and Sec. 7.3, from lists of the true format and length.

The real lists cannot be fetched here, so their entries are simulated: what is tested is which file,
which column and which rule makes a split. Where the counts follow from a rule (Flowers) rather than
from a list, the class sizes are made up.
"""

import numpy as np
import pytest

from stages.datasets.fetching.tars import Tar
from stages.datasets.published import aircraft, cars, cub, dogs, flowers, pascal
from stages.datasets.published.waterbirds import list_waterbirds
from tests.support import layouts
from tests.support.layouts import mat, pack


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """The Tar of an archive's files."""
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path))

    def write(files: layouts.Files, gzipped: bool = True) -> Tar:
        (tmp_path / "archive").write_bytes(pack(files, gzipped))
        return Tar(tmp_path / "archive")

    return write


def spread(count: int, classes: int) -> list[int]:
    """Labels, as even as can be, in the order of the classes."""
    return sorted(k % classes for k in range(count))


def test_cub_has_5994_and_5794_images_of_200_classes_by_simulated_lists(opened):
    names = [f"Bird_{k}" for k in range(200)]
    images = []
    for train, count in ((True, 5994), (False, 5794)):
        images += [(label, f"{k}.jpg", train) for k, label in enumerate(spread(count, 200))]

    classes, rows = cub.list_images(opened(layouts.cub_files(names, images, pictures=False)))

    assert (len(classes), rows["train"].sum(), (~rows["train"]).sum()) == (200, 5994, 5794)
    assert sorted(rows.loc[rows["train"], "label"].unique()) == list(range(200))


def test_waterbirds_have_5794_test_images_of_11788_by_simulated_metadata(opened):
    """In Table 4's balance: both kinds half on land and half on water, 642 and 2255 of each."""
    groups = [(1, 1)] * 642 + [(1, 0)] * 642 + [(0, 0)] * 2255 + [(0, 1)] * 2255
    test = [
        (f"{k % 200 + 1:03d}.Bird/{k}.jpg", kind, 2, habitat)
        for k, (kind, habitat) in enumerate(groups)
    ]
    train = [(f"001.Bird/0_{k}.jpg", 0, 0, 0) for k in range(4795)]
    val = [(f"001.Bird/1_{k}.jpg", 0, 1, 0) for k in range(1199)]

    files = layouts.waterbird_files([*train, *val, *test], pictures=False)
    pictures = {f"{layouts.waterbirds.ROOT}/{name}": b"" for name, *_ in test}
    rows, images = list_waterbirds(opened(files | pictures, gzipped=False), 200)

    assert len(rows) == len(images) == 5794
    assert rows["group"].value_counts().to_dict() == {
        "waterbird_water": 642,
        "waterbird_land": 642,
        "landbird_land": 2255,
        "landbird_water": 2255,
    }


def test_aircraft_has_3334_and_3333_images_of_100_classes_by_simulated_lists(opened):
    variants = [f"{700 + k}-{k}/B" for k in range(100)]
    splits = {
        name: [(f"{first + k:07d}", variants[label]) for k, label in enumerate(spread(count, 100))]
        for name, first, count in (("train", 0, 3334), ("val", 4000, 3333), ("test", 8000, 3333))
    }

    files = layouts.aircraft_files(variants, splits, pictures=False)
    classes, parts = aircraft.list_images(opened(files))

    assert (len(classes), len(parts["train"]), len(parts["test"])) == (100, 3334, 3333)


def test_dogs_have_12000_and_8580_images_of_120_classes_by_simulated_lists(opened):
    splits = {
        name: [
            (f"n{label:08d}-Dog_{label}/{name}_{k}.jpg", label + 1)
            for k, label in enumerate(spread(count, 120))
        ]
        for name, count in (("train", 12000), ("test", 8580))
    }

    classes, parts = dogs.list_images(opened(layouts.dog_lists(splits), gzipped=False))

    assert (len(classes), len(parts["train"]), len(parts["test"])) == (120, 12000, 8580)
    assert classes[119] == "Dog 119"


def test_cars_have_8144_and_8041_images_by_simulated_annotations():
    counts = []
    for count in (8144, 8041):
        rows = [(f"{k + 1:05d}.jpg", label + 1) for k, label in enumerate(spread(count, 196))]
        labels = cars.list_images(layouts.car_annotations(rows), "cars")
        counts.append((len(labels), len(set(labels.values())), labels["cars/00001.jpg"]))

    assert counts == [(8144, 196, 0), (8041, 196, 0)]


def test_flowers_have_4070_and_4119_images_of_102_classes_by_made_up_class_sizes():
    """8189 images whose halves differ by 49 have 49 classes of odd size.

    Nothing else about the sizes matters.
    """
    sizes = [81] * 49 + [80] * 52 + [8189 - 49 * 81 - 52 * 80]
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(1, 103), sizes))
    parts = flowers.split_images(stored(labels))

    assert (len(flowers.CLASSES), len(parts["train"]), len(parts["test"])) == (102, 4070, 4119)
    assert not parts["train"].keys() & parts["test"].keys()
    for name, label in (parts["train"] | parts["test"]).items():
        assert labels[int(name[10:15]) - 1] == label + 1


def stored(labels: np.ndarray) -> np.ndarray:
    """Labels as they come back from a .mat of imagelabels.mat's shape and type."""
    return flowers.read_mat(mat(labels=labels[None].astype(np.uint8)))["labels"]


def test_pascal_has_1464_and_1449_images_by_simulated_lists(opened):
    splits = {
        "train": [f"2007_{k:06d}" for k in range(1464)],
        "val": [f"2008_{k:06d}" for k in range(1449)],
    }
    tar = opened(layouts.pascal_files(splits, {}), gzipped=False)

    assert [len(pascal.list_images(tar, split)) for split in ("train", "val")] == [1464, 1449]
    assert len(pascal.CLASSES) == 20

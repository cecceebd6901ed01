"""Each dataset, from a small archive of its layout: which image is in which split and class.

The archives are fetched from a site on this machine.
"""

import io
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import download
from stages.datasets.dataset import Dataset
from stages.datasets.fetching import transfer
from stages.datasets.fetching.archives import Mirror
from stages.datasets.published import cub, pascal
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes
from stages.shared.tables import Table
from tests.support import layouts
from tests.support.archive_server import Site, serving
from tests.support.closure import ROOT
from tests.support.layouts import jpeg, mat, pack, republish

CUB = layouts.cub_files(
    ["Black_footed_Albatross", "Laysan_Albatross"],
    [
        (0, "a.jpg", False),
        (0, "b.jpg", True),
        (1, "c.jpg", True),
        (1, "d.jpg", False),
        (1, "e.jpg", True),
    ],
)
BIRDS = layouts.waterbird_files(
    [
        ("001.Black_footed_Albatross/a.jpg", 1, 2, 0),
        ("002.Laysan_Albatross/c.jpg", 1, 2, 1),
        ("002.Laysan_Albatross/d.jpg", 0, 2, 1),
        ("002.Laysan_Albatross/e.jpg", 0, 2, 0),
        ("001.Black_footed_Albatross/b.jpg", 0, 0, 0),
        ("001.Black_footed_Albatross/f.jpg", 1, 1, 1),
    ]
)
AIRCRAFT = layouts.aircraft_files(
    ["707-320", "F-16A/B"],
    {
        "train": [("0034309", "F-16A/B"), ("0034958", "707-320")],
        "val": [("0056978", "F-16A/B")],
        "test": [("0062765", "707-320"), ("0061581", "F-16A/B")],
    },
)
TERRIER = "n02093428-American_Staffordshire_terrier"
COONHOUND = "n02089078-black-and-tan_coonhound"
BREEDS = {
    "train": [("n02085620-Chihuahua/n02085620_1.jpg", 1), (f"{TERRIER}/n02093428_2.jpg", 2)],
    "test": [(f"{COONHOUND}/n02089078_3.jpg", 3), ("n02085620-Chihuahua/n02085620_4.jpg", 1)],
}
DOGS = {
    f"Images/{file}": jpeg(number, 50)
    for number, (file, _) in enumerate(BREEDS["train"] + BREEDS["test"])
}
MODELS = ["AM General Hummer SUV 2000", "Ram C/V Cargo Van Minivan 2012"]
CARS = [("00001.jpg", 2), ("00002.jpg", 1)]
CARS_TEST = [("00001.jpg", 1), ("00002.jpg", 1)]
FLOWERS = [1, 1, 1, 2, 2, 1]  # labels of image_00001 and so on
SQUARE = np.zeros((4, 5), int)


def mask(**boxes: tuple[int, int]) -> np.ndarray:
    """A 4 × 5 mask where row0=(value, width) sets the first `width` pixels of row 0 to `value`."""
    drawn = SQUARE.copy()
    for row, (value, width) in boxes.items():
        drawn[int(row[-1]), :width] = value

    return drawn


PASCAL = layouts.pascal_files(
    {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"]},
    {
        "2007_000032": (
            mask(row0=(1, 2), row1=(2, 4), row3=(255, 5)),
            mask(row0=(15, 2), row1=(12, 4), row3=(255, 5)),
        ),
        "2007_000039": (mask(row0=(1, 4), row1=(2, 2)), mask(row0=(20, 4), row1=(9, 2))),
        "2007_000033": (mask(row2=(1, 1)), mask(row2=(1, 1))),
    },
)
PUBLISHED: dict[str, list[bytes]] = {
    "cub": [pack(CUB)],
    "waterbirds": [pack(BIRDS)],
    "aircraft": [pack(AIRCRAFT)],
    "dogs": [pack(DOGS, gzipped=False), pack(layouts.dog_lists(BREEDS), gzipped=False)],
    "cars": [
        pack({f"cars_train/{file}": jpeg(k, 60) for k, (file, _) in enumerate(CARS)}),
        pack({f"cars_test/{file}": jpeg(k, 70) for k, (file, _) in enumerate(CARS)}),
        pack(layouts.car_devkit(MODELS, CARS)),
        layouts.car_annotations(CARS_TEST),
    ],
    "flowers": [
        pack({f"jpg/image_{k:05d}.jpg": jpeg(k, 80) for k in range(1, 7)}),
        mat(labels=np.array([FLOWERS], np.uint8)),
    ],
    "pascal": [pack(PASCAL, gzipped=False)],
}


@pytest.fixture(autouse=True)
def site(tmp_path, monkeypatch):
    """Serves every dataset as its authors would."""
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path / "kept"))

    with serving() as site:
        for name, contents in PUBLISHED.items():
            site.files |= republish(monkeypatch, name, site.url, contents)
        yield site


def params(**changes: Any) -> dict[str, Any]:
    data = yaml.safe_load((ROOT / "tests/support/tiny.yaml").read_text())["data"]
    return {"data": data | changes}


def get(name: str, waterbirds: bool = False, mirror: Mirror | None = None) -> Dataset:
    data = download.Params.model_validate(params(name=name, waterbirds=waterbirds)).data
    return download.READERS[name](data, mirror or Mirror())


class Seen(NamedTuple):
    """What a split holds."""

    labels: list[int]
    images: list[bytes]


def split(dataset: Dataset, name: str) -> Seen:
    rows, images = dataset.splits[name]
    return Seen(rows["label"].tolist(), list(images))


def test_cub_is_split_by_its_list_and_named_by_its_folders():
    dataset = get("cub")
    files = {name[-5]: content for name, content in CUB.items() if name.endswith(".jpg")}

    assert dataset.classes == ["Black footed Albatross", "Laysan Albatross"]
    assert split(dataset, "train") == ([0, 1, 1], [files[k] for k in "bce"])
    assert split(dataset, "test") == ([0, 1], [files[k] for k in "ad"])


def test_waterbirds_are_the_ood_table_of_cub_with_species_and_group_of_the_test_split():
    rows, images = get("cub", waterbirds=True).splits["ood"]
    groups = ["waterbird_land", "waterbird_water", "landbird_water", "landbird_land"]

    assert rows["label"].tolist() == [0, 1, 1, 1]
    assert rows["group"].tolist() == groups
    assert list(images) == [BIRDS[name] for name in BIRDS if name.endswith(".jpg")][:4]


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([("003.Sooty_Albatross/a.jpg", 1, 2, 0)], "an unknown class or group"),
        ([("001.Black_footed_Albatross/a.jpg", 1, 2, 7)], "an unknown class or group"),
        ([("001.Black_footed_Albatross/a.jpg", 1, 1, 1)], "has no test image"),
        ([("Black_footed_Albatross/a.jpg", 1, 2, 1)], "metadata.csv cannot be read"),
    ],
)
def test_strange_waterbirds_are_refused(site, monkeypatch, rows, line):
    archive = pack(layouts.waterbird_files(rows))
    site.files |= republish(monkeypatch, "waterbirds", site.url, [archive])

    with pytest.raises(BadInput, match=line):
        get("cub", waterbirds=True)


def test_waterbirds_that_were_truncated_do_not_bar_whole_ones(site, tmp_path):
    """The one dataset without a published checksum: that of a broken archive is not recorded."""
    folder = layouts.save(tmp_path / "by hand", site.files)
    archive = folder / cub.WATERBIRDS.name
    whole = archive.read_bytes()

    archive.write_bytes(whole[:-20])
    with pytest.raises(BadInput, match=r"is no whole archive .*; remove it, and get it anew"):
        get("cub", waterbirds=True, mirror=Mirror(archive=str(folder)))

    archive.write_bytes(whole)
    get("cub", waterbirds=True, mirror=Mirror(archive=str(folder)))


def test_aircraft_trains_on_train_alone_and_is_named_by_variant():
    dataset = get("aircraft")
    files = {name[-11:-4]: content for name, content in AIRCRAFT.items() if name.endswith(".jpg")}

    assert dataset.classes == ["707-320", "F-16A/B"]
    assert split(dataset, "train") == ([1, 0], [files["0034309"], files["0034958"]])
    assert split(dataset, "test") == ([0, 1], [files["0062765"], files["0061581"]])


def test_dogs_are_split_by_their_lists_and_named_without_the_synset():
    dataset = get("dogs")
    breeds = ["Chihuahua", "American Staffordshire terrier", "black-and-tan coonhound"]
    images = list(DOGS.values())

    assert dataset.classes == breeds
    assert split(dataset, "train") == ([0, 1], images[:2])
    assert split(dataset, "test") == ([2, 0], images[2:])


def test_cars_have_their_test_labels_from_the_file_of_their_own():
    dataset = get("cars")

    assert dataset.classes == MODELS
    assert split(dataset, "train") == ([1, 0], [jpeg(0, 60), jpeg(1, 60)])
    assert split(dataset, "test") == ([0, 0], [jpeg(0, 70), jpeg(1, 70)])


def test_flowers_are_pooled_and_each_class_is_halved_by_one_generator():
    dataset = get("flowers")
    train = split(dataset, "train")
    test = split(dataset, "test")

    rng = np.random.default_rng(0)
    first = np.array([1, 2, 3, 6])[rng.permutation(4)]
    second = np.array([4, 5])[rng.permutation(2)]
    trained = [*sorted(first[:2]), *sorted(second[:1])]
    tested = [*sorted(first[2:]), *sorted(second[1:])]

    assert train == ([0, 0, 1], [jpeg(number, 80) for number in trained])
    assert test == ([0, 0, 1], [jpeg(number, 80) for number in tested])


def test_pascal_images_are_of_the_class_of_their_largest_object():
    dataset = get("pascal")

    # dog (4 pixels) before person (2), television before cow
    assert split(dataset, "train").labels == [11, 19]
    # airplane: the only object, though background is larger
    assert split(dataset, "test").labels == [0]


def test_pascal_gives_the_labelled_object_as_the_mask():
    contents = split(get("pascal"), "masks").images
    masks = [np.asarray(Image.open(io.BytesIO(content))) for content in contents]

    assert len(masks) == 2
    assert (masks[0] == np.where(mask(row1=(1, 4)), 255, 0)).all()


def test_pascals_largest_object_is_found_where_nothing_is_void():
    """DA-Fusion's own code drops the last number, here the larger object."""
    objects = mask(row0=(1, 2), row1=(2, 4))
    classes = mask(row0=(15, 2), row1=(12, 4))

    assert pascal.label_largest(objects, classes)[0] == 11


def test_pascal_without_an_object_is_refused(site, monkeypatch):
    empty = (mask(row0=(255, 5)), SQUARE)
    files = layouts.pascal_files({"train": ["a"], "val": ["a"]}, {"a": empty})
    site.files |= republish(monkeypatch, "pascal", site.url, [pack(files, gzipped=False)])

    line = r"VOCtrainval_11-May-2012.tar: a has no object of a known class"
    with pytest.raises(BadInput, match=line):
        get("pascal")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "waterbirds"])
def test_archives_downloaded_by_hand_are_read_without_network(name, site: Site, tmp_path):
    folder = layouts.save(tmp_path / "by hand", site.files)
    assert get(name, mirror=Mirror(archive=str(folder))).classes
    assert site.requests == []


def test_the_stage_writes_the_tables_of_a_dataset_fetched_over_a_connection_that_breaks(
    site, tmp_path, monkeypatch
):
    site.cuts = 2
    site.cut_at = 500
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    monkeypatch.chdir(tmp_path)
    chosen = params(name="cub", waterbirds=True, url=site.url)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen))

    download.main()

    output = tmp_path / "data/download"
    assert [len(Table(output / name)) for name in ("train", "masks", "test", "ood")] == [3, 0, 2, 4]
    assert read_classes(output)["name"].tolist() == ["Black footed Albatross", "Laysan Albatross"]
    assert Table(output / "ood").rows["group"].iloc[1] == "waterbird_water"
    assert [wanted for _, wanted in site.requests] == [None, "bytes=500-", "bytes=1000-", None]


def test_a_damaged_image_of_an_archive_leaves_the_last_output_whole(site, tmp_path, monkeypatch):
    before = tmp_path / "data/download/classes.csv"
    before.parent.mkdir(parents=True)
    before.write_text("as it was")

    broken = CUB | {"CUB_200_2011/images/002.Laysan_Albatross/d.jpg": b"\xff\xd8 no picture"}
    site.files |= republish(monkeypatch, "cub", site.url, [pack(broken)])
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params(name="cub")))
    monkeypatch.chdir(tmp_path)

    line = r"CUB_200_2011.tgz: CUB_200_2011/images/002.Laysan_Albatross/d.jpg: is not a"
    with pytest.raises(BadInput, match=line):
        download.main()
    assert before.read_text() == "as it was"

"""What a run has to do, in images: known before there is data, by Table 8, and without torch.

Where dvc.lock says that data/download is of the same parameters, its images are counted instead.
"""

from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd

from experiments.reproducing.lock import LOCK, read_lock
from experiments.tables.recipes import Tree
from stages import download, plan, subsample
from stages.datasets.dataset import Dataset, Split
from stages.datasets.fetching.archives import Mirror
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes
from stages.shared.methods import Method
from stages.shared.params import leaves, lookup, pick
from stages.shared.paths import DOWNLOAD
from stages.shared.schemas import method
from stages.shared.schemas.download import Data
from stages.shared.tables import Table

PHOTOS = 16  # images that stand for all of them
PUBLISHED = {  # Table 8: classes, images to train and to test on; and the archives' bytes
    "cub": (200, 5994, 5794, 1_150_585_339),
    "aircraft": (100, 3334, 3333, 2_753_340_328),
    "flowers": (102, 4070, 4119, 344_878_000),
    "dogs": (120, 12000, 8580, 794_060_800),
    "cars": (196, 8144, 8041, 1_957_136_468),
    "pascal": (20, 1464, 1449, 1_999_639_040),
}
WATERBIRDS = 5794  # test images, the ood table; how large its archive is nobody publishes


class Images(NamedTuple):
    """The real images."""

    per_class: np.ndarray  # training images before the subset is chosen, int (classes,)
    test: int
    ood: int
    origin: str  # where the numbers are from, in words
    photos: list[bytes]  # some of them, encoded; none where there are none yet
    stored: int  # bytes of all of them; of a dataset to be fetched, at most
    archives: int  # bytes still to be fetched


class Counts(NamedTuple):
    """What a setting trains on and makes."""

    images: Images
    rows: int  # training images of the subset
    plan: pd.DataFrame  # of plan.make_plan, a row an image to be made
    method: Method


def count(tree: Tree) -> Counts:
    """Count a valid parameter file's images; raises BadInput where nobody can do so yet."""
    images = count_images(tree)
    sizes = subsample.wanted_sizes(images.per_class, pick(subsample.Params, tree).subset)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    keys = [f"{row:08d}" for row in range(len(labels))]
    rows = pd.DataFrame({"key": keys, "label": labels})

    planning = pick(plan.Params, tree)
    chosen = method.resolve(pick(method.Params, tree))
    near = any_neighbours(len(sizes)) if planning.synth.pairing == "adjacent" else None
    choice = plan.Choice(chosen.mode, list(chosen.strength), near)
    return Counts(images, len(rows), plan.make_plan(rows, len(sizes), choice, planning), chosen)


def any_neighbours(classes: int) -> np.ndarray:
    """Some order of the other classes, int (classes, classes - 1): CLIP's would need the images."""
    return (np.arange(classes)[:, None] + np.arange(1, classes)) % classes


def count_images(tree: Tree) -> Images:
    """The images in data/download, or those that the stage will fetch, draw or import."""
    data = pick(download.Params, tree).data
    if is_downloaded(tree):
        return count_dataset(read_downloaded(), f"counted in {DOWNLOAD}")
    if data.name in PUBLISHED:
        return list_published(data)
    if data.name == "hub":
        raise BadInput(
            "data.name: how many images a dataset of the hub has is known once it is there; with "
            "these parameters in params.yaml run `dvc repro download`, then call again"
        )

    drawn = data.name == "toybirds"
    origin = "as they will be drawn" if drawn else f"counted in {data.folder.path}"
    return count_dataset(download.READERS[data.name](data, Mirror(data.url, data.archive)), origin)


def is_downloaded(tree: Tree) -> bool:
    """Whether data/download is there, and was made with these parameters, by dvc.lock."""
    locked = read_lock() if LOCK.is_file() else {}
    if "download" not in locked or not DOWNLOAD.is_dir():
        return False

    parameters = {path: lookup(tree, path) for path in leaves(download.Params)}
    return locked["download"]["params"]["params.yaml"] == parameters


def read_downloaded() -> Dataset:
    tables = {split: Table(DOWNLOAD / split) for split in ("train", "test", "ood")}
    splits = {
        split: Split(table.rows, map(table.read, range(len(table))))
        for split, table in tables.items()
    }
    return Dataset(list(read_classes(DOWNLOAD)["name"]), splits)


def count_dataset(dataset: Dataset, origin: str) -> Images:
    """Count all images, and read some."""
    splits = download.EMPTY | dataset.splits
    train, test, ood = (splits[name].rows for name in ("train", "test", "ood"))
    per_class = np.bincount(train["label"], minlength=len(dataset.classes))

    photos = list(islice(splits["train"].images, PHOTOS))
    stored = sum(map(len, photos)) * (len(train) + len(test) + len(ood)) // len(photos)
    return Images(per_class, len(test), len(ood), origin, photos, stored, 0)


def list_published(data: Data) -> Images:
    """A dataset of Table 8, its classes as equally large as whole numbers can be.

    Its archives hold its images, and more.
    """
    classes, train, test, archives = PUBLISHED[data.name]
    per_class = train // classes + (np.arange(classes) < train % classes)
    ood = WATERBIRDS if data.waterbirds else 0

    origin = "as Table 8 has them, the classes taken as equally large"
    return Images(per_class, test, ood, origin, [], archives, 0 if data.archive else archives)

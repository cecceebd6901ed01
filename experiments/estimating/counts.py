"""What a run has to do, in images: known before there is data, by Table 8, and without torch.

Where data/ holds this setting's own tables, by dvc.lock, they are counted instead.
"""

from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from experiments.reproducing.lock import LOCK, read_lock
from experiments.tables.recipes import Tree
from stages import download, plan, subsample
from stages.datasets.fetching.archives import Mirror
from stages.shared.errors import BadInput
from stages.shared.methods import Method
from stages.shared.params import pick
from stages.shared.paths import DOWNLOAD, PLAN, SUBSAMPLE
from stages.shared.schemas import method
from stages.shared.schemas.download import Data
from stages.shared.tables import Table, read_classes, read_manifest

PARAMS = "params.yaml"  # as dvc.lock calls it
PHOTOS = 16  # images that stand for all of them


class Published(NamedTuple):
    """A dataset of Table 8; `archives`: bytes to be fetched, of the files that stages/datasets names."""

    classes: int
    train: int
    test: int
    archives: int


PUBLISHED = {
    "cub": Published(200, 5994, 5794, 1_150_585_339),
    "aircraft": Published(100, 3334, 3333, 2_753_340_328),
    "flowers": Published(102, 4070, 4119, 344_878_000),
    "dogs": Published(120, 12000, 8580, 794_060_800),
    "cars": Published(196, 8144, 8041, 1_957_136_468),
    "pascal": Published(20, 1464, 1449, 1_999_639_040),
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
    plan: (
        pd.DataFrame
    )  # a row an image to be made: key, source_key, source_label, target_label, strength, seed
    method: Method


def count(tree: Tree, path: Path) -> Counts:
    """Count a parameter file's images; `path` is what messages call it.

    Raises BadInput for a wrong parameter, and for images that nobody can count yet.
    """
    data = pick(download.Params, tree, path=path).data
    choice, planning = pick(subsample.Params, tree, path=path), pick(plan.Params, tree, path=path)
    chosen = method.resolve(pick(method.Params, tree, path=path))
    plan.check_choice(chosen.mode, planning.synth)
    images = read_images() if made(["download"], tree) else list_images(data)
    if made(["download", "subsample", "method", "plan"], tree):
        return Counts(images, len(read_manifest(SUBSAMPLE)), read_rows(), chosen)
    rows = spread_rows(subsample.wanted_sizes(images.per_class, choice.subset))
    classes = len(images.per_class)
    near = any_neighbours(classes) if planning.synth.pairing == "adjacent" else None
    drawn = plan.make_plan(
        rows, classes, plan.Choice(chosen.mode, list(chosen.strength), near), planning
    )
    return Counts(images, len(rows), drawn, chosen)


def made(stages: list[str], tree: Tree) -> bool:
    """Whether the workspace holds the stages' outputs, made with these parameters."""
    locked = read_lock() if LOCK.is_file() else {}
    return all(stage in locked and is_made(locked[stage], tree) for stage in stages)


def is_made(locked: dict[str, Any], tree: Tree) -> bool:
    there = all(Path(entry["path"]).exists() for entry in locked["outs"])
    params = locked.get("params", {}).get(PARAMS, {})
    return there and all(find(tree, place) == value for place, value in params.items())


def find(tree: Tree, place: str) -> Any:
    """What stands at a dotted path; None where nothing does."""
    node: Any = tree
    for step in place.split("."):
        node = node.get(step) if isinstance(node, dict) else None
    return node


def read_images() -> Images:
    """What `dvc repro download` has put there."""
    classes = len(read_classes(DOWNLOAD))
    train, test, ood = (
        read_manifest(DOWNLOAD / name, classes=classes) for name in ("train", "test", "ood")
    )
    per_class = np.bincount(train["label"], minlength=classes)
    table = Table(
        DOWNLOAD / "train", train.iloc[np.linspace(0, len(train) - 1, PHOTOS).astype(int)]
    )
    photos = [table.read(row) for row in range(len(table))]
    stored = sum(int(rows["size"].sum()) for rows in (train, test, ood))
    return Images(per_class, len(test), len(ood), f"counted in {DOWNLOAD}", photos, stored, 0)


def list_images(data: Data) -> Images:
    """The images of a dataset that has not been fetched yet; a folder's are opened, as `download` will."""
    if data.name == "hub":
        raise BadInput(
            "data.name: how many images a dataset of the hub has is known once it is there; with these parameters in "
            "params.yaml run `dvc repro download`, then call again"
        )
    if data.name in PUBLISHED:
        return list_published(data)
    found = download.READERS[data.name](data, Mirror(data.url, data.archive))
    splits = download.EMPTY | found.splits
    train, test, ood = (splits[name].rows for name in ("train", "test", "ood"))
    photos = list(islice(splits["train"].images, PHOTOS))
    stored = sum(map(len, photos)) * (len(train) + len(test) + len(ood)) // len(photos)
    origin = (
        "as they will be drawn" if data.name == "toybirds" else f"counted in {data.folder.path}"
    )
    per_class = np.bincount(train["label"], minlength=len(found.classes))
    return Images(per_class, len(test), len(ood), origin, photos, stored, 0)


def list_published(data: Data) -> Images:
    """A dataset of Table 8: its archives hold its images, and more."""
    sizes, ood = PUBLISHED[data.name], WATERBIRDS if data.waterbirds else 0
    origin = "as Table 8 has them, the classes taken as equally large"
    fetched = 0 if data.archive else sizes.archives
    return Images(
        even_sizes(sizes.classes, sizes.train), sizes.test, ood, origin, [], sizes.archives, fetched
    )


def even_sizes(classes: int, images: int) -> np.ndarray:
    """As equal as whole numbers can be, the larger first, int (classes,)."""
    return images // classes + (np.arange(classes) < images % classes)


def spread_rows(sizes: np.ndarray) -> pd.DataFrame:
    """Training rows of these sizes, class by class, under keys of their own."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return pd.DataFrame({"key": [f"{row:08d}" for row in range(len(labels))], "label": labels})


def any_neighbours(classes: int) -> np.ndarray:
    """Some order of the other classes, int (classes, classes - 1): CLIP's would need the images."""
    return (np.arange(classes)[:, None] + np.arange(1, classes)) % classes


def read_rows() -> pd.DataFrame:
    from stages.shared.diffusion.translation import (
        read_plan,  # here: it imports diffusers, and few calls need it
    )

    return read_plan(PLAN / "plan.csv", read_manifest(SUBSAMPLE))

"""Decide every synthetic image before any is made: source, target, strength, seed.

Reads:  data/subsample/manifest.csv, data/download/classes.csv, data/method/plan.json;
        with adjacent pairing, data/download/train/ and CLIP
Writes: data/plan/plan.csv
Paper:  Sec. 3.4; for a long tail, Eq. 4 reversed (supplement)
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.files import write_csv
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import Mode, read_mode
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, PLAN, SUBSAMPLE
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.inputs import run
from stages.shared.schemas.plan import Params, Synth, check_choice
from stages.shared.tables import Table

STREAM = 1  # keeps these draws apart from those that subsample makes with the same seed
PLANNED = ["source_key", "source_label", "target_label", "strength", "seed"]


class Choice(NamedTuple):
    """Where images start from, and the strengths to draw from.

    nearest: with adjacent pairing, the other classes of each class, nearest first:
    int (classes, classes - 1).
    """

    mode: Mode
    strength: list[float]
    nearest: np.ndarray | None = None


def target_sizes(counts: np.ndarray, multiplier: float, reverse: bool) -> np.ndarray:
    """Synthetic images per class, int (classes,).

    They are in proportion to the class's real ones. For a long tail they are in proportion to the
    real ones of the class at the other end, which is Eq. 4 with reversed class indices (supplement,
    after SYNAuG).
    """
    basis = counts
    if reverse:
        ranks = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")  # 0: the largest
        basis = np.sort(counts)[ranks]

    return np.maximum(np.rint(multiplier * basis), 1).astype(int)


def nearest_classes(table: Table, classes: int, clip: Pretrained) -> np.ndarray:
    """The other classes of each class by how similar CLIP finds their training images.

    Returns int (classes, classes - 1), nearest first.
    """
    # imported here, since importing CLIP takes seconds and no other pairing needs it
    from stages.shared.pretrained.clip import image_features, load_clip, prototypes
    from stages.shared.running.runtime import seed_everything

    seed_everything(0)
    features = image_features(table, *load_clip(clip))
    directions = prototypes(features, table.rows["label"].tolist(), classes).numpy()
    likeness = directions @ directions.T

    # a class is put first among its own neighbours, and the first is left out
    np.fill_diagonal(likeness, np.inf)
    return np.argsort(-likeness, axis=1, kind="stable")[:, 1:]


def draw_sources(
    rows: pd.DataFrame,
    target: int,
    count: int,
    choice: Choice,
    synth: Synth,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """`count` reference images for a target class.

    They are drawn evenly over the images that may be referred to.
    """
    sources = np.setdiff1d(rows["label"].unique(), target)
    if choice.mode == "aug":
        sources = np.array([target])
    elif choice.nearest is not None:
        sources = choice.nearest[target][: synth.referable_classes]
    elif synth.referable_classes is not None:
        size = min(synth.referable_classes, len(sources))
        sources = rng.choice(sources, size=size, replace=False)

    pool = rows[rows["label"].isin(sources)]
    return pool.iloc[rng.integers(len(pool), size=count)]


def make_plan(rows: pd.DataFrame, classes: int, choice: Choice, params: Params) -> pd.DataFrame:
    """One row per image, class by class.

    Each class has its own generator, so that a change to one class does not move another's images.
    Raises BadInput where mixing finds no second class.
    """
    counts = rows["label"].value_counts().reindex(range(classes), fill_value=0).to_numpy()
    if choice.mode == "mix" and (counts > 0).sum() < 2:
        raise BadInput(
            "params.yaml: method: mixing needs two classes with images; take a -aug or -gen method"
        )

    sizes = target_sizes(counts, params.synth.multiplier, reverse=params.subset.mode == "long-tail")
    parts = [
        _plan_class(rows, target, int(size), choice, params) for target, size in enumerate(sizes)
    ]

    plan = pd.concat(parts, ignore_index=True)
    plan.insert(0, "key", [f"{row:08d}" for row in range(len(plan))])
    return plan


def _plan_class(
    rows: pd.DataFrame, target: int, size: int, choice: Choice, params: Params
) -> pd.DataFrame:
    rng = np.random.default_rng((params.seed, target, STREAM))
    part = pd.DataFrame({"target_label": [target] * size})

    if choice.mode == "gen":
        part["source_key"] = ""
        part["source_label"] = -1
        part["strength"] = 1.0
    else:
        sources = draw_sources(rows, target, size, choice, params.synth, rng)
        part["source_key"] = sources["key"].to_numpy()
        part["source_label"] = sources["label"].to_numpy()
        part["strength"] = rng.choice(choice.strength, size=size)

    part["seed"] = rng.integers(2**31, size=size)
    return part[PLANNED]


def main() -> None:
    params = load(Params)
    classes = len(read_classes(DOWNLOAD))
    rows = read_manifest(SUBSAMPLE, classes=classes)
    mode, strength = read_mode()
    check_choice(mode, params.synth)

    nearest = None
    if params.synth.pairing == "adjacent":
        nearest = nearest_classes(Table(DOWNLOAD / "train", rows), classes, params.clip)

    plan = make_plan(rows, classes, Choice(mode, strength, nearest), params)
    write_csv(PLAN / "plan.csv", plan)


if __name__ == "__main__":
    run(main)

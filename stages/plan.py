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


def class_basis(counts: np.ndarray, reverse: bool) -> np.ndarray:
    """What a class's synthetic images are in proportion to, int (classes,): its real ones.

    For a long tail they are in proportion to the real ones of the class at the other end, which is
    Eq. 4 with reversed class indices (supplement, after SYNAuG).
    """
    if not reverse:
        return counts

    ranks = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")  # 0: the largest
    return np.sort(counts)[ranks]


def target_sizes(counts: np.ndarray, multiplier: float, reverse: bool) -> np.ndarray:
    """Synthetic images per class, int (classes,); one at least, and halves are rounded up."""
    basis = class_basis(counts, reverse)
    return np.maximum(np.floor(multiplier * basis + 0.5), 1).astype(int)


def order_by_need(basis: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class of each row of a plan, and the row's number in its class, both int (rows,).

    Rows come in the order in which a growing multiplier asks for them: so the plan of a smaller
    multiplier is the beginning of that of a larger one.
    """
    classes = np.repeat(np.arange(len(sizes)), sizes)
    numbers = np.concatenate([np.arange(size) for size in sizes])

    # row j of a class is asked for from (j + 1/2) / basis on, and the first one always
    needed = (numbers + 0.5) / np.maximum(basis, 1)[classes]
    needed[numbers == 0] = 0
    order = np.lexsort((classes, needed))

    return classes[order], numbers[order]


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


def source_classes(
    labels: np.ndarray, target: int, choice: Choice, synth: Synth, rng: np.random.Generator
) -> np.ndarray:
    """The classes whose images a target class may start from."""
    others = np.setdiff1d(labels, target)
    if choice.mode == "aug":
        return np.array([target])
    if choice.nearest is not None:
        return choice.nearest[target][: synth.referable_classes]
    if synth.referable_classes is None:
        return others

    size = min(synth.referable_classes, len(others))
    return rng.choice(others, size=size, replace=False)


def make_plan(rows: pd.DataFrame, classes: int, choice: Choice, params: Params) -> pd.DataFrame:
    """One row per image, in the order of `order_by_need`.

    Each class has its own generators, so that a change to one class does not move another's images;
    and a row's draws depend neither on how many rows there are nor, but for its strength, on the
    strengths. Raises BadInput where mixing finds no second class.
    """
    counts = rows["label"].value_counts().reindex(range(classes), fill_value=0).to_numpy()
    if choice.mode == "mix" and (counts > 0).sum() < 2:
        raise BadInput(
            "params.yaml: method: mixing needs two classes with images; take a -aug or -gen method"
        )

    reverse = params.subset.mode == "long-tail"
    sizes = target_sizes(counts, params.synth.multiplier, reverse)
    parts = [
        _plan_class(rows, target, int(size), choice, params) for target, size in enumerate(sizes)
    ]

    targets, numbers = order_by_need(class_basis(counts, reverse), sizes)
    firsts = np.cumsum(sizes) - sizes
    plan = pd.concat(parts, ignore_index=True).iloc[firsts[targets] + numbers]
    plan = plan.reset_index(drop=True)

    plan.insert(0, "key", [f"{row:08d}" for row in range(len(plan))])
    return plan


def _plan_class(
    rows: pd.DataFrame, target: int, size: int, choice: Choice, params: Params
) -> pd.DataFrame:
    """The class's rows. Each column has a generator, whose draws come one after the other."""
    seeds = np.random.SeedSequence((params.seed, target, STREAM)).spawn(4)
    of_classes, of_sources, of_strengths, of_seeds = map(np.random.default_rng, seeds)
    part = pd.DataFrame({"target_label": [target] * size})

    if choice.mode == "gen":
        part["source_key"] = ""
        part["source_label"] = -1
        part["strength"] = 1.0
    else:
        labels = source_classes(rows["label"].unique(), target, choice, params.synth, of_classes)
        pool = rows[rows["label"].isin(labels)]  # drawn evenly over the images
        sources = pool.iloc[of_sources.integers(len(pool), size=size)]
        part["source_key"] = sources["key"].to_numpy()
        part["source_label"] = sources["label"].to_numpy()

        places = (of_strengths.random(size) * len(choice.strength)).astype(int)
        part["strength"] = np.array(choice.strength)[places]

    part["seed"] = of_seeds.integers(2**31, size=size)
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

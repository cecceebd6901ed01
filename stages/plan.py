"""Decide every synthetic image before any is made: source, target, strength, seed.

Reads data/subsample/manifest.csv and classes.csv. Writes data/plan/plan.csv. Sec. 3.4 and the supplement's long tail.
"""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from stages.shared.errors import BadInput
from stages.shared.params import Section, load
from stages.shared.tables import read_classes, read_manifest

SOURCES, CLASSES, OUTPUT = Path("data/subsample"), Path("data/download"), Path("data/plan")
STREAM = 1  # apart from the streams that subsample draws with the same seed
Strength = Annotated[float, Field(gt=0, le=1)]


class Subset(Section):
    mode: Literal["full", "few-shot", "long-tail"]


class Synth(Section):
    mode: Literal["mix", "aug", "gen"]
    strength: list[Strength] = Field(min_length=1)
    multiplier: float = Field(gt=0)
    referable_classes: int | None = Field(ge=1)


class Params(Section):
    seed: int = Field(ge=0)
    subset: Subset
    synth: Synth


def target_sizes(counts: np.ndarray, multiplier: float, reverse: bool) -> np.ndarray:
    """Synthetic images per class, int (classes,).

    In proportion to the real ones; for a long tail in proportion to the real ones of the class at the other end, which
    is Eq. 4 with reversed class indices (supplement, after SYNAuG).
    """
    basis = np.sort(counts)[np.argsort(np.argsort(-counts, kind="stable"), kind="stable")] if reverse else counts
    return np.maximum(np.rint(multiplier * basis), 1).astype(int)


def draw_sources(rows: pd.DataFrame, target: int, count: int, synth: Synth, rng: np.random.Generator) -> pd.DataFrame:
    """`count` reference images for a target class, drawn evenly over the images that may be referred to."""
    if synth.mode == "aug":
        pool = rows[rows["label"] == target]
    else:
        others = np.setdiff1d(rows["label"].unique(), target)
        if synth.referable_classes is not None:
            others = rng.choice(others, size=min(synth.referable_classes, len(others)), replace=False)
        pool = rows[rows["label"].isin(others)]
    return pool.iloc[rng.integers(len(pool), size=count)]


def make_plan(rows: pd.DataFrame, classes: int, params: Params) -> pd.DataFrame:
    """One row per image; class by class, each with its own generator, so that one does not move another."""
    counts = rows["label"].value_counts().reindex(range(classes), fill_value=0).to_numpy()
    if params.synth.mode == "mix" and (counts > 0).sum() < 2:
        raise BadInput("params.yaml: synth.mode: mix needs two classes with images; take aug or gen")
    sizes = target_sizes(counts, params.synth.multiplier, reverse=params.subset.mode == "long-tail")
    parts = [_plan_class(rows, target, int(size), params) for target, size in enumerate(sizes)]
    plan = pd.concat(parts, ignore_index=True)
    plan.insert(0, "key", [f"{row:08d}" for row in range(len(plan))])
    return plan


def _plan_class(rows: pd.DataFrame, target: int, size: int, params: Params) -> pd.DataFrame:
    rng = np.random.default_rng((params.seed, target, STREAM))
    part = pd.DataFrame({"target_label": [target] * size})
    if params.synth.mode == "gen":
        part["source_key"], part["source_label"], part["strength"] = "", -1, 1.0
    else:
        sources = draw_sources(rows, target, size, params.synth, rng)
        part["source_key"], part["source_label"] = sources["key"].to_numpy(), sources["label"].to_numpy()
        part["strength"] = rng.choice(params.synth.strength, size=size)
    part["seed"] = rng.integers(2**31, size=size)
    return part[["source_key", "source_label", "target_label", "strength", "seed"]]


def main() -> None:
    params = load(Params)
    plan = make_plan(read_manifest(SOURCES), len(read_classes(CLASSES)), params)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    plan.to_csv(OUTPUT / "plan.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()

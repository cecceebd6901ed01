"""Choose the training rows: all, a few of each class, or a long tail.

Reads data/download/train/manifest.csv and classes.csv. Writes data/subsample/manifest.csv; the images stay where they
are. Sec. 4.1 (few-shot), Eq. 4 in Sec. 4.3 (long tail).
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from stages.shared.errors import BadInput
from stages.shared.longtail import Exponent, class_sizes
from stages.shared.params import Section, load
from stages.shared.tables import read_classes, read_manifest, write_manifest

DOWNLOAD, OUTPUT = Path("data/download"), Path("data/subsample")


class Subset(Section):
    mode: Literal["full", "few-shot", "long-tail"]
    shots: int = Field(ge=1)
    imbalance_factor: float = Field(ge=1)
    exponent: Exponent


class Params(Section):
    seed: int = Field(ge=0)
    subset: Subset


def wanted_sizes(counts: np.ndarray, subset: Subset) -> np.ndarray:
    """How many images of each class to keep, int (classes,); no more than the class has.

    A long tail's head is the largest class: classes are sorted by size before Eq. 4 (Sec. 7.4), equal ones by index.
    """
    if subset.mode == "full":
        return counts
    if subset.mode == "few-shot":
        return np.minimum(counts, subset.shots)
    sizes = np.empty_like(counts)
    sizes[np.argsort(-counts, kind="stable")] = class_sizes(
        len(counts), float(counts.mean()), subset.imbalance_factor, subset.exponent
    )
    return np.minimum(counts, sizes)


def choose(rows: pd.DataFrame, sizes: np.ndarray, seed: int) -> pd.DataFrame:
    """`sizes[label]` random rows of each class, in their old order.

    Each class is shuffled by its own generator and read from the front: a smaller choice lies inside a larger one.
    """
    kept = [
        np.random.default_rng((seed, label)).permutation(np.flatnonzero(rows["label"] == label))[:size]
        for label, size in enumerate(sizes)
    ]
    return rows.iloc[np.sort(np.concatenate(kept))]


def count_images(rows: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Training images of each class, int (classes,); raises BadInput for a class without one."""
    counts = np.bincount(rows["label"], minlength=len(names))
    if (counts == 0).any():
        name = names[int(np.argmin(counts))]
        raise BadInput(f"{DOWNLOAD}/train/manifest.csv: class {name!r} has no training image; add some or remove it")
    return counts


def main() -> None:
    params = load(Params)
    names = list(read_classes(DOWNLOAD)["name"])
    rows = read_manifest(DOWNLOAD / "train", classes=len(names))
    sizes = wanted_sizes(count_images(rows, names), params.subset)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_manifest(OUTPUT, choose(rows, sizes, params.seed))


if __name__ == "__main__":
    main()

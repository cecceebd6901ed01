"""Choose the training rows: all, a few of each class, or a long tail.

Reads:  data/download/train/manifest.csv, data/download/classes.csv
Writes: data/subsample/manifest.csv
Paper:  Sec. 4.1 (few-shot), Eq. 4 in Sec. 4.3 (long tail)

Only rows are written: the images stay in data/download/train/.
"""

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.files import write_csv
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, SUBSAMPLE
from stages.shared.running.inputs import run
from stages.shared.schemas.subsample import Exponent, Params, Subset


def class_sizes(
    classes: int, mean: float, imbalance_factor: float, exponent: Exponent
) -> list[int]:
    """Images of class k = 0 … N-1 by Eq. 4: max(int(n̄ ρ^(-k/(N-2))), 1), largest first.

    The paper prints k/(N-1); its Table 10 and the official code have k/(N-2), which takes the
    last class a little below n̄/ρ. With fewer than three classes the divisor is 1.
    """
    divisor = max(classes - {"n-2": 2, "n-1": 1}[exponent], 1)
    return [max(int(mean * imbalance_factor ** (-k / divisor)), 1) for k in range(classes)]


def wanted_sizes(counts: np.ndarray, subset: Subset) -> np.ndarray:
    """How many images of each class to keep, int (classes,); no more than the class has.

    A long tail's head is the largest class: classes are sorted by size before Eq. 4 (Sec. 7.4),
    equal ones by index.
    """
    if subset.mode == "full":
        return counts
    if subset.mode == "few-shot":
        return np.minimum(counts, subset.shots)

    tail = class_sizes(len(counts), float(counts.mean()), subset.imbalance_factor, subset.exponent)
    sizes = np.empty_like(counts)
    sizes[np.argsort(-counts, kind="stable")] = tail
    return np.minimum(counts, sizes)


def choose(rows: pd.DataFrame, sizes: np.ndarray, seed: int) -> pd.DataFrame:
    """`sizes[label]` random rows of each class, in their old order.

    Each class is shuffled by its own generator and read from the front: a smaller choice lies
    inside a larger one.
    """
    kept = []
    for label, size in enumerate(sizes):
        rng = np.random.default_rng((seed, label))
        shuffled = rng.permutation(np.flatnonzero(rows["label"] == label))
        kept.append(shuffled[:size])

    return rows.iloc[np.sort(np.concatenate(kept))]


def count_images(rows: pd.DataFrame, names: list[str]) -> np.ndarray:
    """Training images of each class, int (classes,); raises BadInput for a class without one."""
    counts = np.bincount(rows["label"], minlength=len(names))
    if (counts == 0).any():
        name = names[int(np.argmin(counts))]
        raise BadInput(
            f"{DOWNLOAD}/train/manifest.csv: class {name!r} has no training image; "
            "add some or remove it"
        )

    return counts


def main() -> None:
    params = load(Params)
    names = list(read_classes(DOWNLOAD)["name"])
    rows = read_manifest(DOWNLOAD / "train", classes=len(names))

    sizes = wanted_sizes(count_images(rows, names), params.subset)
    write_csv(SUBSAMPLE / "manifest.csv", choose(rows, sizes, params.seed))


if __name__ == "__main__":
    run(main)

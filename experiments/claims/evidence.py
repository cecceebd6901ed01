"""The difference between rows of experiments, with its 95 % interval.

This is the bootstrap of stages/evaluate.py, across runs. Rows are paired by trial and image, so
both sides must have answered the same test images in as many trials.
"""

from collections.abc import Callable
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.measuring.accuracy import Splits, draw_weights, paired, percent
from stages.shared.measuring.bootstrap import (
    Weights,
    accuracy,
    interval,
    resample,
    whole,
    worst_accuracy,
)

CLAIMS_FILE = "experiments/tables/claims.yaml"
Resampled = dict[str, Weights]  # by split
Shots = dict[str, np.ndarray]  # the classes with many, medium and few training images
MEASURES = (
    "top1", "many", "medium", "few", "waterbird_average", "waterbird_worst",
    "landbird_land", "landbird_water", "waterbird_land", "waterbird_water",
)  # fmt: skip


class Unmeasurable(BadInput):
    """The rows' data have no images to measure it on; no other run of them would."""


class Gain(NamedTuple):
    """A difference in points, with the ends of its interval."""

    value: float
    low: float
    high: float


class Side(NamedTuple):
    """One row's answers, and its classes by their number of training images."""

    splits: Splits
    shots: Shots


def check_measure(name: str) -> None:
    """Raises BadInput for an unknown measure."""
    if name not in MEASURES:
        known = ", ".join(MEASURES)
        raise BadInput(
            f"{CLAIMS_FILE}: measure {name!r} is none of {known} and images.<column>; fix it"
        )


def resample_measure(name: str, side: Side, weights: Resampled) -> np.ndarray:
    """A measure's value in each resample, (resamples,).

    Raises BadInput for an unknown measure, Unmeasurable for one that the row has no images for.
    """
    check_measure(name)
    splits, shots = side

    if name == "top1":
        return accuracy(splits["test"].correct, weights["test"])
    if name in shots:
        return class_mean(splits, shots[name], weights["test"])

    groups = splits["ood"].groups if "ood" in splits else np.array([])
    if name == "waterbird_average" and len(groups):
        return accuracy(splits["ood"].correct, weights["ood"])
    if name == "waterbird_worst" and len(groups):
        return worst_accuracy(splits["ood"].correct, groups, weights["ood"])
    if name not in groups:
        raise Unmeasurable(f"{CLAIMS_FILE}: {name}: the dataset has no images for it; take it out")

    return accuracy_of(splits, "ood", groups == name, weights["ood"])


def accuracy_of(splits: Splits, split: str, members: np.ndarray, weights: Weights) -> np.ndarray:
    """Accuracy on a part of a split's images; NaN in a resample that holds none of them."""
    part = Weights(weights.trials, weights.images[:, members])
    with np.errstate(invalid="ignore"):
        return accuracy(splits[split].correct[:, members], part)


def class_mean(splits: Splits, classes: np.ndarray, weights: Weights) -> np.ndarray:
    """The mean of the classes' accuracies, as measure_arm of stages/shared/measuring has it.

    Classes without test images do not count. Raises Unmeasurable where no class has any.
    """
    labels = splits["test"].labels
    tested = np.intersect1d(classes, labels)
    if not len(tested):
        raise Unmeasurable(
            f"{CLAIMS_FILE}: no test image is of these classes; take another measure"
        )

    by_class = [accuracy_of(splits, "test", labels == label, weights) for label in tested]
    return np.nanmean(by_class, axis=0)


def resample_contrast(
    measure: str, beyond: list[str], side: Side, weights: Resampled
) -> np.ndarray:
    """The measure less the mean of the measures in `beyond`, in each resample."""
    value = resample_measure(measure, side, weights)
    if not beyond:
        return value

    others = [resample_measure(name, side, weights) for name in beyond]
    return value - np.mean(others, axis=0)


def compare(
    better: list[Side], worse: list[Side], measure: str, beyond: list[str], count: int
) -> Gain:
    """The mean over the better rows less the mean over the worse, by `count` resamples.

    Raises BadInput for rows that are not paired, and Unmeasurable.
    """
    check_paired([*better, *worse])
    splits = better[0].splits

    def difference(weights: Resampled) -> np.ndarray:
        above = [resample_contrast(measure, beyond, side, weights) for side in better]
        below = [resample_contrast(measure, beyond, side, weights) for side in worse]
        return np.mean(above, axis=0) - np.mean(below, axis=0)

    ones = {split: whole(*answers.predicted.shape) for split, answers in splits.items()}
    return summarise(difference, ones, draw_weights(splits, count))


def summarise(
    difference: Callable[[Resampled], np.ndarray], ones: Resampled, weights: Resampled
) -> Gain:
    """The difference on all images once (`ones`), and its interval over the resamples."""
    low, high = interval(difference(weights))
    return Gain(percent(difference(ones)[0]), percent(low), percent(high))


def check_paired(sides: list[Side]) -> None:
    """Raises BadInput where two rows answered different questions."""
    first = sides[0].splits
    for side in sides[1:]:
        same_splits = side.splits.keys() == first.keys()
        if not same_splits or not all(paired(side.splits[split], first[split]) for split in first):
            raise BadInput(
                f"{CLAIMS_FILE}: compares rows with other test images or trials; take others"
            )


def compare_images(
    better: list[pd.DataFrame], worse: list[pd.DataFrame], column: str, count: int
) -> Gain:
    """The same for a column of data/assess/images.csv, paired by the image's key."""
    values = [select_column(table, column).set_index("key")[column] for table in [*better, *worse]]
    joined = pd.concat(values, axis=1, join="inner").dropna().to_numpy(float)
    if not len(joined):
        raise Unmeasurable(
            f"{CLAIMS_FILE}: no image has {column!r} in all the rows compared; take others"
        )

    above = joined[:, : len(better)].mean(1)
    below = joined[:, len(better) :].mean(1)

    def difference(weights: Resampled) -> np.ndarray:
        return accuracy((above - below)[None], weights["images"])

    return summarise(difference, *_image_weights(np.zeros(len(joined)), count))


def select_column(images: pd.DataFrame, column: str) -> pd.DataFrame:
    """The images that have a value in the column; raises BadInput for an unknown column."""
    if column not in images:
        known = ", ".join(images.columns)
        raise BadInput(f"{CLAIMS_FILE}: column {column!r} of the images is none of {known}; fix it")

    return images.dropna(subset=[column])


def compare_kept(images: pd.DataFrame, column: str, count: int) -> Gain:
    """What the filter kept less what it dropped, at equal strength.

    A strength's difference weighs as much as the filter dropped of it. Pooled, the strengths would
    decide: most is dropped at the highest, where the target is recognised most often. Each cell,
    the kept or the dropped images of one strength, is resampled by itself.
    """
    rows = select_column(images, column)
    values = rows[column].to_numpy(float)[None]
    cells = find_cells(rows)

    all_dropped = sum(dropped.sum() for _, dropped in cells)
    shares = [dropped.sum() / all_dropped for _, dropped in cells]

    def mean(weights: Weights, members: np.ndarray) -> np.ndarray:
        return accuracy(values[:, members], Weights(weights.trials, weights.images[:, members]))

    def difference(weights: Resampled) -> np.ndarray:
        drawn = weights["images"]
        by_strength = [mean(drawn, kept) - mean(drawn, dropped) for kept, dropped in cells]
        return np.tensordot(shares, by_strength, axes=1)

    # Each cell is a group of its own; images of no cell stay together in group 0.
    groups = np.zeros(len(rows), int)
    for number, cell in enumerate(chain.from_iterable(cells), start=1):
        groups[cell] = number

    return summarise(difference, *_image_weights(groups, count))


def find_cells(rows: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """The kept and the dropped images, (images,) each, of every strength that has both.

    Raises Unmeasurable where no strength has both.
    """
    strengths = rows["strength"].to_numpy()
    kept = rows["kept"].to_numpy() == 1

    cells = []
    for strength in np.unique(strengths):
        members = strengths == strength
        if (kept & members).any() and (~kept & members).any():
            cells.append((kept & members, ~kept & members))
    if not cells:
        raise Unmeasurable(
            f"{CLAIMS_FILE}: at no strength are there kept and dropped images; take another row"
        )

    return cells


def _image_weights(groups: np.ndarray, count: int) -> tuple[Resampled, Resampled]:
    """All images once, and `count` resamples within the groups, (images,)."""
    return {"images": whole(1, len(groups))}, {"images": resample(1, groups, count)}

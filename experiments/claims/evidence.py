"""The difference between rows of experiments, with its 95 % interval: the bootstrap of stages/evaluate.py, across runs.

Rows are paired by trial and image, so both sides must have answered the same test images in as many trials.
"""

from collections.abc import Callable
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

Resampled = dict[str, Weights]  # by split
Shots = dict[str, np.ndarray]  # classes by many, medium and few
MEASURES = (
    "top1", "many", "medium", "few", "waterbird_average", "waterbird_worst",
    "landbird_land", "landbird_water", "waterbird_land", "waterbird_water",
)  # fmt: skip


class Unmeasurable(BadInput):
    """The rows' data have no images to measure it on; no other run of them would."""


class Gain(NamedTuple):
    """In points, with its interval."""

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
            f"experiments/tables/claims.yaml: measure {name!r} is none of {known} and images.<column>; fix it"
        )


def statistic(name: str, side: Side, weights: Resampled) -> np.ndarray:
    """A measure in each resample, (resamples,); raises Unmeasurable for one that the row has not."""
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
        raise Unmeasurable(
            f"experiments/tables/claims.yaml: {name}: the dataset has no images for it; take it out"
        )
    return select(splits, "ood", groups == name, weights["ood"])


def select(splits: Splits, split: str, members: np.ndarray, weights: Weights) -> np.ndarray:
    """Accuracy on a part of a split's images; NaN in a resample that holds none of them."""
    part = Weights(weights.trials, weights.images[:, members])
    with np.errstate(invalid="ignore"):
        return accuracy(splits[split].correct[:, members], part)


def class_mean(splits: Splits, classes: np.ndarray, weights: Weights) -> np.ndarray:
    """The mean of the classes' accuracies, as measure_arm has it; classes without test images do not count."""
    labels = splits["test"].labels
    tested = np.intersect1d(classes, labels)
    if not len(tested):
        raise Unmeasurable(
            "experiments/tables/claims.yaml: no test image is of these classes; take another measure"
        )
    return np.nanmean(
        [select(splits, "test", labels == label, weights) for label in tested], axis=0
    )


def contrast(measure: str, beyond: list[str], side: Side, weights: Resampled) -> np.ndarray:
    """The measure, less the mean of the measures in `beyond`: by how much more it moves than they do."""
    value = statistic(measure, side, weights)
    return (
        value - np.mean([statistic(name, side, weights) for name in beyond], axis=0)
        if beyond
        else value
    )


def compare(
    better: list[Side], worse: list[Side], measure: str, beyond: list[str], count: int
) -> Gain:
    """The mean over the better rows less that over the worse; `count` resamples."""
    first = better[0]
    check_paired([*better, *worse])

    def difference(weights: Resampled) -> np.ndarray:
        sides = (
            [contrast(measure, beyond, side, weights) for side in part] for part in (better, worse)
        )
        above, below = (np.mean(values, axis=0) for values in sides)
        return above - below

    ones = {split: whole(*answers.predicted.shape) for split, answers in first.splits.items()}
    return summarise(difference, ones, draw_weights(first.splits, count))


def summarise(
    difference: Callable[[Resampled], np.ndarray], ones: Resampled, weights: Resampled
) -> Gain:
    low, high = interval(difference(weights))
    return Gain(percent(difference(ones)[0]), percent(low), percent(high))


def check_paired(sides: list[Side]) -> None:
    """Raises BadInput where two rows answered different questions."""
    first = sides[0].splits
    for side in sides[1:]:
        if side.splits.keys() != first.keys() or not all(
            paired(side.splits[split], first[split]) for split in first
        ):
            raise BadInput(
                "experiments/tables/claims.yaml: compares rows with other test images or trials; take others"
            )


def compare_images(
    better: list[pd.DataFrame], worse: list[pd.DataFrame], column: str, count: int
) -> Gain:
    """The same for a column of data/assess/images.csv, paired by the image's key."""
    values = [select_column(table, column).set_index("key")[column] for table in [*better, *worse]]
    joined = pd.concat(values, axis=1, join="inner").dropna().to_numpy(float)
    if not len(joined):
        raise Unmeasurable(
            f"experiments/tables/claims.yaml: no image has {column!r} in all the rows compared; take others"
        )
    above, below = joined[:, : len(better)].mean(1), joined[:, len(better) :].mean(1)

    def difference(weights: Resampled) -> np.ndarray:
        return accuracy((above - below)[None], weights["images"])

    return summarise(difference, *_image_weights(np.zeros(len(joined)), count))


def select_column(images: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows that have a value in the column; raises BadInput for a column that is none."""
    if column not in images:
        known = ", ".join(images.columns)
        raise BadInput(
            f"experiments/tables/claims.yaml: column {column!r} of the images is none of {known}; fix it"
        )
    return images.dropna(subset=[column])


def compare_kept(images: pd.DataFrame, column: str, count: int) -> Gain:
    """What the filter kept less what it dropped, at equal strength, weighted by how many it dropped of each.

    Pooled, the strengths would decide: most is dropped at the highest, where the target is recognised most often.
    Each cell, the kept or the dropped of one strength, is resampled by itself.
    """
    rows = select_column(images, column)
    values, cells = rows[column].to_numpy(float)[None], find_cells(rows)
    shares = [dropped.sum() / sum(dropped.sum() for _, dropped in cells) for _, dropped in cells]

    def mean(weights: Weights, members: np.ndarray) -> np.ndarray:
        return accuracy(values[:, members], Weights(weights.trials, weights.images[:, members]))

    def difference(weights: Resampled) -> np.ndarray:
        each = [
            mean(weights["images"], kept) - mean(weights["images"], dropped)
            for kept, dropped in cells
        ]
        return np.tensordot(shares, each, axes=1)

    groups = sum(
        number * cell
        for number, cell in enumerate([cell for pair in cells for cell in pair], start=1)
    )
    return summarise(difference, *_image_weights(np.asarray(groups), count))


def find_cells(rows: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """The kept and the dropped, (images,) each, of every strength that has both; raises Unmeasurable where none has."""
    strengths, kept = rows["strength"].to_numpy(), rows["kept"].to_numpy() == 1
    cells = [
        (kept & (strengths == strength), ~kept & (strengths == strength))
        for strength in np.unique(strengths)
    ]
    if not (cells := [pair for pair in cells if pair[0].any() and pair[1].any()]):
        raise Unmeasurable(
            "experiments/tables/claims.yaml: at no strength are there kept and dropped images; take another row"
        )
    return cells


def _image_weights(groups: np.ndarray, count: int) -> tuple[Resampled, Resampled]:
    """All images once, and `count` resamples."""
    return {"images": whole(1, len(groups))}, {"images": resample(1, groups, count)}

"""The difference between rows of experiments, with its 95 % interval: the bootstrap of stages/evaluate.py, across runs.

Rows are paired by trial and image, so both sides must have answered the same test images in as many trials.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.shared.bootstrap import Weights, accuracy, interval, resample, whole, worst_accuracy
from stages.shared.errors import BadInput
from stages.shared.measures import Splits, draw_weights, paired, percent

Resampled = dict[str, Weights]  # by split
Shots = dict[str, np.ndarray]  # classes by many, medium and few
EXTREMES = ("waterbird_average", "waterbird_worst")


class Difference(NamedTuple):
    """In points, with its interval."""

    value: float
    low: float
    high: float


class Side(NamedTuple):
    """One row's answers, and its classes by their number of training images."""

    splits: Splits
    shots: Shots


def statistic(name: str, side: Side, weights: Resampled) -> np.ndarray:
    """A measure in each resample, (resamples,); raises BadInput for one that the row has not."""
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
        known = ", ".join(["top1", *shots, *(EXTREMES if len(groups) else ()), *np.unique(groups)])
        raise BadInput(f"experiments/claims.yaml: measure {name!r} is none of {known}; mend it")
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
    return np.nanmean([select(splits, "test", labels == label, weights) for label in tested], axis=0)


def contrast(measure: str, beyond: list[str], side: Side, weights: Resampled) -> np.ndarray:
    """The measure, less the mean of the measures in `beyond`: by how much more it moves than they do."""
    value = statistic(measure, side, weights)
    return value - np.mean([statistic(name, side, weights) for name in beyond], axis=0) if beyond else value


def compare(better: list[Side], worse: list[Side], measure: str, beyond: list[str], count: int) -> Difference:
    """The mean over the better rows less that over the worse; `count` resamples."""
    first = better[0]
    check_paired([*better, *worse])

    def difference(weights: Resampled) -> np.ndarray:
        sides = ([contrast(measure, beyond, side, weights) for side in part] for part in (better, worse))
        above, below = (np.mean(values, axis=0) for values in sides)
        return above - below

    ones = {split: whole(*answers.predicted.shape) for split, answers in first.splits.items()}
    return summarise(difference, ones, draw_weights(first.splits, count))


def summarise(difference: Callable[[Resampled], np.ndarray], ones: Resampled, weights: Resampled) -> Difference:
    low, high = interval(difference(weights))
    return Difference(percent(difference(ones)[0]), percent(low), percent(high))


def check_paired(sides: list[Side]) -> None:
    """Raises BadInput where two rows answered different questions."""
    first = sides[0].splits
    for side in sides[1:]:
        if side.splits.keys() != first.keys() or not all(paired(side.splits[split], first[split]) for split in first):
            raise BadInput("experiments/claims.yaml: compares rows with other test images or trials; take others")


def compare_images(better: list[pd.DataFrame], worse: list[pd.DataFrame], column: str, count: int) -> Difference:
    """The same for a column of data/assess/images.csv, paired by the image's key."""
    values = [[table.set_index("key")[column] for table in tables] for tables in (better, worse)]
    joined = pd.concat([series for side in values for series in side], axis=1, join="inner").dropna().to_numpy(float)
    if not len(joined):
        raise BadInput(f"experiments/claims.yaml: no image has {column!r} in all the rows compared; take others")
    above, below = joined[:, : len(better)].mean(1), joined[:, len(better) :].mean(1)

    def difference(weights: Resampled) -> np.ndarray:
        return accuracy((above - below)[None], weights["images"])

    return summarise(difference, *_image_weights(np.zeros(len(joined)), count))


def compare_kept(images: pd.DataFrame, column: str, count: int) -> Difference:
    """What the filter kept less what it dropped; each is resampled by itself."""
    rows = images.dropna(subset=[column])
    values, kept = rows[column].to_numpy(float)[None], rows["kept"].to_numpy()
    if len(np.unique(kept)) < 2:
        raise BadInput("experiments/claims.yaml: the filter has dropped nothing, or everything; take another row")

    def mean(weights: Weights, members: np.ndarray) -> np.ndarray:
        return accuracy(values[:, members], Weights(weights.trials, weights.images[:, members]))

    def difference(weights: Resampled) -> np.ndarray:
        return mean(weights["images"], kept == 1) - mean(weights["images"], kept == 0)

    return summarise(difference, *_image_weights(kept, count))


def _image_weights(groups: np.ndarray, count: int) -> tuple[Resampled, Resampled]:
    """All images once, and `count` resamples."""
    return {"images": whole(1, len(groups))}, {"images": resample(1, groups, count)}

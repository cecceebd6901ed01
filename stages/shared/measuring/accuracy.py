"""Measures of classifiers: top-1, many/medium/few-shot classes, Waterbird groups, paired gains.

They need predictions.csv and nothing else of a run, so that another revision's run can be measured
as well. Accuracies are percentages with two decimals; 95 % intervals are over trials and test
images.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.manifests import TEXT
from stages.shared.measuring.intervals import (
    Weights,
    accuracy,
    class_accuracy,
    interval,
    leave_out,
    resample,
    whole,
    worst_accuracy,
)

PREDICTION_COLUMNS = ["trial", "split", "key", "label", "predicted", "group"]
ANEW = "train the arm anew with `dvc repro -f`"


class Answers(NamedTuple):
    """A classifier's answers on one split, in the order of the keys.

    Predictions are (trials, images), all else (images,).
    """

    keys: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return (self.predicted == self.labels).astype(float)


Splits = dict[str, Answers]  # `test`, and `ood` where the dataset has one
SplitWeights = dict[str, Weights]
Statistic = Callable[[Splits, SplitWeights], np.ndarray]  # a share in each resample


class Draws(NamedTuple):
    """What a measure and its interval are made of; arms share them, so that gains are paired."""

    whole: SplitWeights  # everything once
    resampled: SplitWeights  # the images drawn anew
    left_out: SplitWeights  # all trials but one

    def measure(self, share: Callable[[SplitWeights], np.ndarray]) -> list[float]:
        """The share, and the ends of its interval, in percent."""
        value = float(share(self.whole)[0])
        low, high = interval(value, share(self.resampled), share(self.left_out))
        return [percent(value), percent(low), percent(high)]


def read_answers(source: Path | IO[str], name: str = "") -> Splits:
    """The splits of a predictions.csv, given as a path or an open file.

    Messages call it `name`. Raises BadInput for a file that is missing or incomplete, or has other
    columns.
    """
    if not name:
        known = source if isinstance(source, Path) else getattr(source, "name", "predictions.csv")
        name = str(known)
    if isinstance(source, Path) and not source.is_file():
        raise BadInput(f"{name}: there is no such file; run `dvc repro` first")

    rows = pd.read_csv(source, dtype=TEXT, keep_default_na=False)  # type: ignore[arg-type]
    if list(rows.columns) != PREDICTION_COLUMNS:
        raise BadInput(f"{name}: columns must be {', '.join(PREDICTION_COLUMNS)}; {ANEW}")

    return {str(split): _order(part, name) for split, part in rows.groupby("split")}


def _order(rows: pd.DataFrame, name: str) -> Answers:
    """One split's rows as arrays, in the order of the keys."""
    twice = rows.duplicated(["trial", "key"])
    if twice.any():
        key = rows.loc[twice, "key"].iloc[0]
        raise BadInput(f"{name}: a trial has answered image {key!r} twice; {ANEW}")

    predicted = rows.pivot(index="trial", columns="key", values="predicted")
    if predicted.isna().any(axis=None):
        raise BadInput(f"{name}: not every trial has answered every image; {ANEW}")

    images = rows.drop_duplicates("key").set_index("key").loc[predicted.columns]
    return Answers(
        images.index.to_numpy(str),
        images["label"].to_numpy(),
        images["group"].to_numpy(str),
        predicted.to_numpy(),
    )


def paired(one: Answers, other: Answers) -> bool:
    """Whether both answer the same images in as many trials: only then is a difference a gain."""
    same = all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))
    return same and len(one.predicted) == len(other.predicted)


def shot_groups(counts: np.ndarray, many: int, few: int) -> dict[str, np.ndarray]:
    """The classes with more than `many` training images, with fewer than `few`, and between.

    `counts` holds the classes' numbers of training images. Empty groups are left out.
    """
    above = counts > many
    below = counts < few
    groups = {"many": above, "medium": ~above & ~below, "few": below}
    return {name: np.flatnonzero(members) for name, members in groups.items() if members.any()}


def percent(share: float) -> float:
    return round(100 * float(share), 2) + 0.0  # + 0.0 turns -0.0 into 0.0


def deviation(shares: np.ndarray) -> float:
    """Sample standard deviation over trials; 0 for a single one."""
    return float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0


def measure_arm(answers: Splits, shots: dict[str, np.ndarray]) -> dict[str, Any]:
    """One entry of `arms` in metrics/evaluate.json.

    many, medium and few are means of the classes' accuracies, as in the official code
    (train_hub_imb.py).
    """
    test = answers["test"]
    trials = test.correct.mean(1)
    result: dict[str, Any] = {
        "top1": percent(trials.mean()),
        "top1_std": percent(deviation(trials)),
    }

    for name, members in shots.items():
        tested = np.intersect1d(members, test.labels)
        if len(tested):
            by_class = [test.correct[:, test.labels == label].mean() for label in tested]
            result[name] = percent(np.mean(by_class))

    if "ood" in answers:
        result["waterbird"] = measure_groups(answers["ood"])

    return result


def measure_groups(ood: Answers) -> dict[str, Any]:
    """Accuracy by Waterbird group (Sec. 4.4, Table 4), over all images, and of the worst group."""
    groups = {}
    for group in np.unique(ood.groups):
        groups[str(group)] = percent(ood.correct[:, ood.groups == group].mean())

    return {"average": percent(ood.correct.mean()), "worst": min(groups.values()), "groups": groups}


def draw_weights(base: Splits, count: int) -> Draws:
    """The draws of the splits' trials and images, with `count` resamples of the images."""
    shapes = {split: part.predicted.shape for split, part in base.items()}
    return Draws(
        {split: whole(*shape) for split, shape in shapes.items()},
        {split: resample(len(part.predicted), part.groups, count) for split, part in base.items()},
        {split: leave_out(*shape) for split, shape in shapes.items()},
    )


def part_statistics(base: Splits, shots: dict[str, np.ndarray]) -> dict[str, Statistic]:
    """How a part of the test data is measured: all of it, a shot group, a Waterbird group.

    Shot groups without test images are left out.
    """
    statistics: dict[str, Statistic] = {"test": top1}
    for name, members in shots.items():
        tested = np.intersect1d(members, base["test"].labels)
        if len(tested):
            statistics[name] = partial(mean_of_classes, tested)

    if "ood" in base:
        groups = map(str, np.unique(base["ood"].groups))
        statistics |= {group: partial(of_group, group) for group in groups}

    return statistics


def top1(answers: Splits, weights: SplitWeights) -> np.ndarray:
    return accuracy(answers["test"].correct, weights["test"])


def mean_of_classes(members: np.ndarray, answers: Splits, weights: SplitWeights) -> np.ndarray:
    test = answers["test"]
    return class_accuracy(test.correct, test.labels, members, weights["test"])


def of_group(group: str, answers: Splits, weights: SplitWeights) -> np.ndarray:
    ood = answers["ood"]
    own = ood.groups == group
    drawn = weights["ood"]
    return accuracy(ood.correct[:, own], Weights(drawn.trials, drawn.images[:, own]))


def worst(answers: Splits, weights: SplitWeights) -> np.ndarray:
    ood = answers["ood"]
    return worst_accuracy(ood.correct, ood.groups, weights["ood"])


def measure_gain(
    arm: Splits, base: Splits, shots: dict[str, np.ndarray], draws: Draws
) -> dict[str, Any]:
    """What an arm adds to the baseline, in points, paired by trial and image.

    One entry of `gain` in metrics/evaluate.json.
    """
    parts = part_statistics(base, shots)
    statistics = {"top1": top1} | {name: parts[name] for name in shots if name in parts}
    if "ood" in base:
        statistics["waterbird_worst"] = worst

    result: dict[str, Any] = {}
    for name, statistic in statistics.items():
        value, *ends = draws.measure(partial(added, statistic, arm, base))
        result |= {name: value, f"{name}_ci": ends}

    return result


def added(statistic: Statistic, arm: Splits, base: Splits, weights: SplitWeights) -> np.ndarray:
    return statistic(arm, weights) - statistic(base, weights)


def measure_parts(answers: Splits, shots: dict[str, np.ndarray], draws: Draws) -> pd.DataFrame:
    """Part, accuracy, and the low and high end of its interval, by part of the test data."""
    rows = []
    for name, statistic in part_statistics(answers, shots).items():
        measured = draws.measure(partial(statistic, answers))
        rows.append([name, *(min(max(percentage, 0.0), 100.0) for percentage in measured)])

    return pd.DataFrame(rows, columns=["part", "accuracy", "low", "high"])

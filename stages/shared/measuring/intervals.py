"""Accuracies with 95 % intervals over trials and test images.

Test images are many, and are resampled; trials are few, and a bootstrap of three would hold the
truth in four of five cases, not in 95 %. Their part is Student's t on the jackknife. A resample is
a weight for each trial and a weight for each image, so that accuracies of all resamples are two
matrix products. The same weights serve all arms, so that gains are paired.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats

ENDS = (0.025, 0.975)  # quantiles


class Weights(NamedTuple):
    """How often each resample holds each trial and each image.

    Arrays (resamples, trials) and (resamples, images).
    """

    trials: np.ndarray
    images: np.ndarray


def whole(trials: int, images: int) -> Weights:
    """Everything once: the measurement itself, as one resample."""
    return Weights(np.ones((1, trials)), np.ones((1, images)))


def resample(trials: int, groups: np.ndarray, count: int, seed: int = 0) -> Weights:
    """Draw the images `count` times with replacement; each resample holds all trials.

    `groups` names each image's group, (images,). Images are drawn within their group, because a
    group's size is not a matter of chance.
    """
    random = np.random.default_rng(seed)

    images = np.zeros((count, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        size = len(members)
        images[:, members] = random.multinomial(size, np.full(size, 1 / size), size=count)

    return Weights(np.ones((count, trials)), images)


def leave_out(trials: int, images: int) -> Weights:
    """All trials but one, by turns, each with all images; of a single trial there is no such."""
    if trials == 1:
        return Weights(np.ones((0, 1)), np.ones((0, images)))

    return Weights(1 - np.eye(trials), np.ones((trials, images)))


def accuracy(correct: np.ndarray, weights: Weights) -> np.ndarray:
    """Share of correct answers in each resample; `correct` is (trials, images)."""
    hits = ((weights.trials @ correct) * weights.images).sum(1)
    return hits / (weights.trials.sum(1) * weights.images.sum(1))


def class_accuracy(
    correct: np.ndarray, labels: np.ndarray, members: np.ndarray, weights: Weights
) -> np.ndarray:
    """The mean of the member classes' accuracies in each resample.

    Classes of which a resample holds no image are left out of its mean; where it holds none of any,
    the mean is NaN.
    """
    hits = (weights.trials @ correct) * weights.images
    trials = weights.trials.sum(1)
    total = np.zeros(len(trials))
    held = np.zeros(len(trials))

    for label in members:
        own = labels == label
        images = weights.images[:, own].sum(1)
        total += hits[:, own].sum(1) / (trials * np.maximum(images, 1))
        held += images > 0

    return np.where(held > 0, total / np.maximum(held, 1), np.nan)


def worst_accuracy(correct: np.ndarray, groups: np.ndarray, weights: Weights) -> np.ndarray:
    """The worst group's accuracy in each resample; each has its own worst group."""
    by_group = []
    for group in np.unique(groups):
        members = groups == group
        part = Weights(weights.trials, weights.images[:, members])
        by_group.append(accuracy(correct[:, members], part))

    return np.min(by_group, axis=0)


def interval(value: float, resampled: np.ndarray, left_out: np.ndarray) -> tuple[float, float]:
    """The ends of a measure's 95 % interval.

    `resampled` are its values in resamples of the images, of which NaN is none, `left_out` those
    without one trial each. What both say to either side adds up as errors do (Zou and Donner,
    "Construction of confidence limits about effect measures", 2008).
    """
    low, high = np.nanquantile(resampled, ENDS)
    reach = trial_reach(left_out)

    below = math.hypot(reach, max(value - float(low), 0.0))
    above = math.hypot(reach, max(float(high) - value, 0.0))
    return value - below, value + above


def trial_reach(left_out: np.ndarray) -> float:
    """How far chance among trials reaches to either side; a single trial does not tell."""
    trials = len(left_out)
    if trials == 0:
        return 0.0

    error = math.sqrt((trials - 1) * float(np.var(left_out)))
    return float(stats.t.ppf(ENDS[1], trials - 1)) * error

"""Accuracies with 95 % bootstrap intervals over trials and test images.

A resample is a weight for each trial and a weight for each image, so that accuracies of all
resamples are two matrix products. The same weights serve all arms, so that gains are paired.
"""

from typing import NamedTuple

import numpy as np

INTERVAL = (2.5, 97.5)  # percentiles


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
    """Draw `count` resamples with replacement.

    `groups` names each image's group, (images,). Images are drawn within their group, because a
    group's size is not a matter of chance.
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(trials, np.full(trials, 1 / trials), size=count).astype(float)

    images = np.zeros((count, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        size = len(members)
        images[:, members] = random.multinomial(size, np.full(size, 1 / size), size=count)

    return Weights(drawn, images)


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


def interval(values: np.ndarray) -> tuple[float, float]:
    """The ends of the interval that holds 95 % of the values, of which NaN is none."""
    low, high = np.nanpercentile(values, INTERVAL)
    return float(low), float(high)

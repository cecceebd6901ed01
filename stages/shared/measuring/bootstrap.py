"""Accuracies with 95 % bootstrap intervals over trials and test images.

A resample is a weight for each trial and a weight for each image, so that accuracies of all resamples are two matrix
products. The same weights serve all arms: gains are paired.
"""

from typing import NamedTuple

import numpy as np

INTERVAL = (2.5, 97.5)  # percentiles


class Weights(NamedTuple):
    """How often each resample holds each trial (resamples, trials) and each image (resamples, images)."""

    trials: np.ndarray
    images: np.ndarray


def whole(trials: int, images: int) -> Weights:
    """Everything once: the measurement itself, as one resample."""
    return Weights(np.ones((1, trials)), np.ones((1, images)))


def resample(trials: int, groups: np.ndarray, count: int, seed: int = 0) -> Weights:
    """Draw `count` resamples with replacement; images within their group, (images,), whose size is no chance."""
    random = np.random.default_rng(seed)
    drawn = random.multinomial(trials, np.full(trials, 1 / trials), size=count).astype(float)
    images = np.zeros((count, len(groups)))
    for group in np.unique(groups):
        members = np.flatnonzero(groups == group)
        images[:, members] = random.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=count
        )
    return Weights(drawn, images)


def accuracy(correct: np.ndarray, weights: Weights) -> np.ndarray:
    """Share of correct answers in each resample; `correct` is (trials, images)."""
    hits = ((weights.trials @ correct) * weights.images).sum(1)
    return hits / (weights.trials.sum(1) * weights.images.sum(1))


def worst_accuracy(correct: np.ndarray, groups: np.ndarray, weights: Weights) -> np.ndarray:
    """The lowest group's accuracy in each resample; which group that is, each resample finds anew."""
    members = [groups == group for group in np.unique(groups)]
    by_group = [
        accuracy(correct[:, m], Weights(weights.trials, weights.images[:, m])) for m in members
    ]
    return np.min(by_group, axis=0)


def interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)

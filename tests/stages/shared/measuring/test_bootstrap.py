"""Accuracies under weights, and intervals of resamples."""

import numpy as np
import pytest

from stages.shared.measuring.bootstrap import (
    Weights,
    accuracy,
    class_accuracy,
    interval,
    resample,
    whole,
    worst_accuracy,
)

CORRECT = np.array([[1.0, 1, 0, 0], [1, 0, 1, 0]])  # two trials, four images


def test_the_whole_is_the_plain_mean():
    assert accuracy(CORRECT, whole(2, 4)).tolist() == [0.5]


def test_weights_count_trials_and_images():
    weights = Weights(np.array([[2.0, 0], [1, 1]]), np.array([[0.0, 3, 1, 0], [2, 0, 0, 2]]))
    assert accuracy(CORRECT, weights).tolist() == [0.75, 0.5]  # 2 * 3 of 2 * 4; 2 * 2 of 2 * 4


def test_each_resample_finds_its_own_worst_group():
    groups = np.array(["a", "a", "b", "b"])
    weights = Weights(np.array([[1.0, 0], [0, 1]]), np.array([[1.0, 1, 1, 1], [0, 2, 2, 0]]))

    # The worst is b in the first resample, a in the second.
    assert worst_accuracy(CORRECT, groups, weights).tolist() == [0.0, 0.0]
    assert worst_accuracy(CORRECT, groups, whole(2, 4)).tolist() == [0.25]


def test_classes_count_alike_and_only_where_a_resample_holds_them():
    labels = np.array([0, 0, 1, 2])
    every, first, none = [1.0, 1, 1, 1], [2.0, 0, 0, 2], [0.0, 0, 0, 4]
    weights = Weights(np.ones((3, 2)), np.array([every, first, none]))

    means = class_accuracy(CORRECT, labels, np.array([0, 1]), weights)

    assert means[:2].tolist() == [(0.75 + 0.5) / 2, 1.0]
    assert np.isnan(means[2])
    assert interval(means) == pytest.approx((0.634375, 0.990625))  # of the two that are known


def test_resamples_keep_the_number_of_trials_and_of_each_groups_images():
    weights = resample(3, np.array(["a", "b", "b", "b"]), 50)

    assert (weights.trials.sum(1) == 3).all()
    assert (weights.images[:, 0] == 1).all()
    assert (weights.images[:, 1:].sum(1) == 3).all()
    assert len(np.unique(weights.images, axis=0)) > 5


def test_the_interval_agrees_with_the_binomial():
    """One trial of 400 images at one half: standard error 2.5 points, so about 0.451 to 0.549."""
    correct = np.array([[1.0, 0] * 200])

    low, high = interval(accuracy(correct, resample(1, np.full(400, ""), 4000)))

    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)

"""Accuracies under weights, and their intervals."""

import numpy as np
import pytest
from scipy import stats

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
    # of the two that are known; a single trial has no part
    assert interval(0.8, means, np.ones(0)) == pytest.approx((0.634375, 0.990625))


def test_resamples_keep_all_trials_and_the_number_of_each_groups_images():
    weights = resample(3, np.array(["a", "b", "b", "b"]), 50)

    assert (weights.trials == 1).all()
    assert (weights.images[:, 0] == 1).all()
    assert (weights.images[:, 1:].sum(1) == 3).all()
    assert len(np.unique(weights.images, axis=0)) > 5


def test_of_trials_alone_the_interval_is_students():
    """Three trials of 50, 60 and 70 %, whose images all go alike."""
    shares = np.array([0.5, 0.6, 0.7])
    correct = np.repeat(shares[:, None], 10, axis=1)

    left_out = accuracy(correct, leave_out(3, 10))
    ends = interval(0.6, accuracy(correct, resample(3, np.full(10, ""), 20)), left_out)

    assert left_out.tolist() == pytest.approx([0.65, 0.6, 0.55])
    expected = stats.t.interval(0.95, 2, loc=0.6, scale=stats.sem(shares))
    assert ends == pytest.approx(expected)


def test_of_images_alone_the_interval_agrees_with_the_binomial():
    """One trial of 400 images at one half: standard error 2.5 points, so about 0.451 to 0.549."""
    correct = np.array([[1.0, 0] * 200])
    resampled = accuracy(correct, resample(1, np.full(400, ""), 4000))

    low, high = interval(0.5, resampled, accuracy(correct, leave_out(1, 400)))

    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.004)
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.004)


@pytest.mark.parametrize(("trials", "deviation"), [(2, 0.02), (3, 0.0), (3, 0.02), (5, 0.02)])
def test_intervals_hold_the_truth_in_95_percent_of_worlds(trials, deviation):
    """A gain of 3 points, of images that are hard for all, and of trials that deviate so much.

    A percentile bootstrap over three trials held it in about 80 %.
    """
    random = np.random.default_rng(0)
    worlds, count = 250, 200
    held = 0

    for world in range(worlds):
        hardness = random.uniform(size=count)
        base, better = (
            answers_of(random, mean, deviation, hardness, trials) for mean in (0.8, 0.83)
        )
        drawn = resample(trials, np.full(count, ""), 100, seed=world)
        whole_one, *chances = (
            accuracy(better, weights) - accuracy(base, weights)
            for weights in (whole(trials, count), drawn, leave_out(trials, count))
        )
        low, high = interval(whole_one[0], *chances)
        held += low <= 0.03 <= high

    assert held >= 0.935 * worlds  # 95 %, less a standard error


def answers_of(
    random: np.random.Generator, mean: float, deviation: float, hardness: np.ndarray, trials: int
) -> np.ndarray:
    """Right or wrong, (trials, images): half of the images are as hard for every trial."""
    chance = mean + random.normal(0, deviation, (trials, 1))
    own = random.uniform(size=(trials, len(hardness)))
    shared = random.uniform(size=len(hardness)) < 0.5
    return (np.where(shared, hardness, own) < chance).astype(float)

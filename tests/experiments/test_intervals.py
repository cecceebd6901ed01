"""Student's t against scipy's own tests, and the intervals' coverage where truth is known."""

import numpy as np
import pytest
from scipy import stats

from experiments.intervals import estimate, interval, p_above, p_below, sign_flip

VALUES = [1.2, 0.4, 2.9, 1.7, -0.3, 1.1, 0.8]


def test_an_interval_is_scipys():
    found = estimate(VALUES)
    low, high = stats.ttest_1samp(VALUES, 0.0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.value, found.replicates) == (pytest.approx(np.mean(VALUES)), 7)


@pytest.mark.parametrize("threshold", [-2.0, 0.0, 1.0])
def test_p_values_are_scipys(threshold):
    found = estimate(VALUES)
    above = stats.ttest_1samp(VALUES, threshold, alternative="greater").pvalue
    below = stats.ttest_1samp(VALUES, threshold, alternative="less").pvalue
    assert p_above(found, threshold) == pytest.approx(above)
    assert p_below(found, threshold) == pytest.approx(below)


def test_replicates_that_do_not_differ_leave_no_doubt():
    found = estimate([3.0, 3.0, 3.0])
    assert (found.low, found.high) == (3.0, 3.0)
    assert (p_above(found, 0.0), p_below(found, 0.0)) == (0.0, 1.0)
    assert p_above(found, 3.0) == 1.0


def test_twice_the_p_is_at_the_level_where_the_interval_ends():
    found = interval(1.3, 0.9, 7)
    assert 2 * p_above(found, found.low) == pytest.approx(0.05)
    assert 2 * p_below(found, found.high) == pytest.approx(0.05)


def draw_accuracies(
    random: np.random.Generator, mean: float, shared: np.ndarray, trials: int
) -> np.ndarray:
    """Percent right of 3,600 images, near the ceiling, where deviations are skewed.

    `shared`: what a replicate's rows have in common, its training rows, (sets, replicates).
    """
    images = random.normal(0, 0.25, shared.shape)  # its model, plan and synthetic images
    classifiers = random.normal(0, 0.2, (trials, *shared.shape))
    chance = 1 / (1 + np.exp(-(mean + shared + images + classifiers)))
    return random.binomial(3600, chance).mean(0) / 36


def draw_differences(random: np.random.Generator, sets: int, replicates: int) -> np.ndarray:
    """Paired differences of two arms at about 95 and 90 percent, (sets, replicates)."""
    shared = random.normal(0, 0.3, (sets, replicates))
    better = draw_accuracies(random, 3.0, shared, trials=2)
    return better - draw_accuracies(random, 2.2, shared, trials=2)


@pytest.mark.parametrize("replicates", [3, 7])
def test_intervals_hold_the_truth_as_often_as_they_say(replicates):
    random = np.random.default_rng(0)
    truth = draw_differences(random, 200_000, 1).mean()
    drawn = [estimate(list(values)) for values in draw_differences(random, 4000, replicates)]

    covered = np.mean([found.low < truth < found.high for found in drawn])
    assert covered > 0.93


def test_replicates_that_share_models_would_not_be_independent():
    """Why each has a model of its own: seven on three, a third of the variance between models."""
    random = np.random.default_rng(0)
    models = np.repeat(random.normal(0, (1 / 3) ** 0.5, (4000, 3)), [3, 2, 2], axis=1)
    drawn = models + random.normal(0, (2 / 3) ** 0.5, (4000, 7))
    found = [estimate(list(values)) for values in drawn]

    assert np.mean([each.low < 0 < each.high for each in found]) < 0.91


def test_flips_of_signs_by_hand():
    """Of 8 flips of 1, 2 and 3 only all and none lie as far from 0 as 2; from 4, as -3, -2, -1."""
    assert sign_flip([1.0, 2.0, 3.0], 0.0) == 2 / 8
    assert sign_flip([1.0, 2.0, 3.0], 4.0) == 2 / 8
    assert sign_flip([-1.0, 0.0, 1.0], 0.0) == 1.0

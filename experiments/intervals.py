"""Student's t on the means of replicates."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import stats

LEVEL = 0.05  # of all intervals: they have 95 %
FLIPS = 9999


class Estimate(NamedTuple):
    """A mean over replicates, with the ends of its interval and the replicates' deviation."""

    value: float
    low: float
    high: float
    deviation: float
    replicates: int


def estimate(values: list[float]) -> Estimate:
    """The mean of at least two replicates' values, with its 95 % interval."""
    deviation = float(np.std(values, ddof=1))
    return interval(float(np.mean(values)), deviation, len(values))


def interval(value: float, deviation: float, replicates: int) -> Estimate:
    """The interval of a mean over so many replicates that deviate so much."""
    error = deviation / math.sqrt(replicates)
    half = quantile(replicates) * error
    return Estimate(value, value - half, value + half, deviation, replicates)


@cache
def quantile(replicates: int) -> float:
    """How many standard errors an interval reaches to either side."""
    return float(stats.t.ppf(1 - LEVEL / 2, replicates - 1))


def p_above(found: Estimate, threshold: float) -> float:
    """The one-sided p of "the mean is at most the threshold": small where it lies above."""
    error = found.deviation / math.sqrt(found.replicates)
    if error == 0.0:  # replicates that do not differ: their mean is all there is to know
        return float(found.value <= threshold)

    return float(stats.t.sf((found.value - threshold) / error, found.replicates - 1))


def p_below(found: Estimate, threshold: float) -> float:
    """The one-sided p of "the mean is at least the threshold": small where it lies below."""
    return p_above(found._replace(value=-found.value), -threshold)


def sign_flip(values: list[float], threshold: float) -> float:
    """The two-sided p of "the mean is the threshold", by flips of the deviations' signs.

    It takes no distribution for granted, but that deviations are symmetric. All flips are looked
    at where there are few, else FLIPS random ones; of seven values p cannot be below 2 / 128.
    """
    deviations = np.array(values) - threshold
    test = stats.permutation_test(
        (deviations,), np.mean, permutation_type="samples", n_resamples=FLIPS, rng=0
    )
    return float(test.pvalue)

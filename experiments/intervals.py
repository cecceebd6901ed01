"""Student's t on the means of replicates."""

import math
from typing import NamedTuple

import numpy as np
from scipy import stats


class Estimate(NamedTuple):
    """A mean over replicates, with the ends of its interval and the replicates' deviation."""

    value: float
    low: float
    high: float
    deviation: float
    replicates: int


def estimate(values: list[float], level: float = 0.05) -> Estimate:
    """The mean with its interval of 1 - `level`; endless where one replicate cannot tell."""
    count = len(values)
    value = float(np.mean(values))
    if count < 2:
        return Estimate(value, -math.inf, math.inf, math.nan, count)

    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(1 - level / 2, count - 1)) * deviation / math.sqrt(count)
    return Estimate(value, value - half, value + half, deviation, count)


def p_above(found: Estimate, threshold: float) -> float:
    """The one-sided p of "the mean is at most the threshold"; small where it lies above."""
    if found.replicates < 2:
        return 1.0

    error = found.deviation / math.sqrt(found.replicates)
    if error == 0.0:  # replicates without any difference: their mean is the truth
        return 0.0 if found.value > threshold else 1.0

    return float(stats.t.sf((found.value - threshold) / error, found.replicates - 1))


def p_below(found: Estimate, threshold: float) -> float:
    """The one-sided p of "the mean is at least the threshold"; small where it lies below."""
    mirrored = found._replace(value=-found.value, low=-found.high, high=-found.low)
    return p_above(mirrored, -threshold)

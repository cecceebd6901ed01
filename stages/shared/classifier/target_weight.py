"""The target's share of a synthetic image's label, s^gamma (Eq. 3).

Imports no torch, so that the report need not load it.
"""

from typing import TypeVar

import numpy as np
import pandas as pd

from stages.shared.classifier.choices import check_gamma_count

Strength = TypeVar("Strength", float, np.ndarray)


def target_weight(
    strength: Strength, gamma: float | list[float], strengths: list[float]
) -> Strength:
    """s^gamma, in the shape of `strength`.

    A list has one gamma for each of `strengths`, in ascending order of the strengths; `strengths`
    are all that the method draws from, not only those of these images.

    Raises BadInput where a list has another length.
    """
    if not isinstance(gamma, list):
        return strength**gamma

    check_gamma_count(gamma, strengths)
    present = np.unique(strengths)
    return strength ** np.asarray(gamma, dtype=float)[np.searchsorted(present, strength)]


def target_share(
    rows: pd.DataFrame, gamma: float | list[float], strengths: list[float]
) -> np.ndarray:
    """The target's share of each synthetic image's label (Eq. 3), (n,).

    It is 1 for an image that was not made from another class's reference. s^gamma goes to the
    target, as in Table 6's caption and the official code; the text below Eq. 3 has it reversed.
    """
    alone = (rows["source_label"] < 0) | (rows["source_label"] == rows["target_label"])
    weights = target_weight(rows["strength"].to_numpy(float), gamma, strengths)
    return np.where(alone, 1.0, weights)

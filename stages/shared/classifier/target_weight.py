"""How much a synthetic image is of its target, s^gamma (Eq. 3); free of torch, for the report's sake."""

from typing import TypeVar

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput

Strength = TypeVar("Strength", float, np.ndarray)


def target_weight(
    strength: Strength, gamma: float | list[float], strengths: list[float]
) -> Strength:
    """s^gamma; a list has one gamma for each of `strengths`, all that the method draws from, in ascending order.

    Raises BadInput where a list has another length.
    """
    if not isinstance(gamma, list):
        return strength**gamma
    present = np.unique(strengths)
    if len(gamma) != len(present):
        raise BadInput(
            f"params.yaml: synth.gamma: has {len(gamma)} numbers for {len(present)} strengths "
            f"({', '.join(f'{one:g}' for one in present)}); give one for each, or a single number for all"
        )
    return strength ** np.asarray(gamma, dtype=float)[np.searchsorted(present, strength)]


def target_share(
    rows: pd.DataFrame, gamma: float | list[float], strengths: list[float]
) -> np.ndarray:
    """The target's share of each synthetic image's label (Eq. 3), (n,); all of it without another class's reference.

    s^gamma goes to the target, as in Table 6's caption and the official code; the text below Eq. 3 has it reversed.
    """
    alone = (rows["source_label"] < 0) | (rows["source_label"] == rows["target_label"])
    return np.where(alone, 1.0, target_weight(rows["strength"].to_numpy(float), gamma, strengths))

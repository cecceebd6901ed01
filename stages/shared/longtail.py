"""The long tail of Eq. 4, which chooses real images and, in reversed class order, counts synthetic ones."""

from typing import Literal

Exponent = Literal["n-2", "n-1"]


def class_sizes(classes: int, mean: float, imbalance_factor: float, exponent: Exponent) -> list[int]:
    """Images of class k = 0 … N-1 by Eq. 4: max(int(n̄ ρ^(-k/(N-2))), 1), largest first.

    The paper prints k/(N-1); its Table 10 and the official code have k/(N-2), which takes the
    last class a little below n̄/ρ. With fewer than three classes the divisor is 1.
    """
    last = max(classes - {"n-2": 2, "n-1": 1}[exponent], 1)
    return [max(int(mean * imbalance_factor ** (-k / last)), 1) for k in range(classes)]

"""Parameters of the stage subsample."""

from typing import Literal

from pydantic import Field

from stages.shared.params import Section, Seed

Exponent = Literal["n-2", "n-1"]  # Eq. 4's divisor: as the official code has it, or as printed


class Subset(Section):
    """Which training images are kept."""

    mode: Literal["full", "few-shot", "long-tail"]
    shots: int = Field(ge=1)  # few-shot: images a class
    imbalance_factor: float = Field(ge=1)  # long-tail: largest over smallest class
    exponent: Exponent  # long-tail


class Params(Section):
    """What the stage reads of params.yaml."""

    seed: Seed
    subset: Subset

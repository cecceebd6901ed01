"""Parameters of the stage subsample."""

from typing import Literal

from pydantic import Field

from stages.shared.params import Section

Exponent = Literal["n-2", "n-1"]


class Subset(Section):
    mode: Literal["full", "few-shot", "long-tail"]
    shots: int = Field(ge=1)
    imbalance_factor: float = Field(ge=1)
    exponent: Exponent


class Params(Section):
    seed: int = Field(ge=0)
    subset: Subset

"""Parameters of the stage filter."""

from pydantic import Field

from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained


class Filter(Section):
    """How much is left out."""

    drop: float = Field(ge=0, lt=1)  # share of the images, those with the lowest confidence


class Params(Section):
    """What the stage reads of params.yaml."""

    clip: Pretrained
    filter: Filter

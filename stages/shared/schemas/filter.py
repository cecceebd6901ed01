"""Parameters of the stage filter."""

from pydantic import Field

from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained


class Filter(Section):
    drop: float = Field(ge=0, lt=1)


class Params(Section):
    clip: Pretrained
    filter: Filter

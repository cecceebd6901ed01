"""Parameters of the stage attention."""

from pydantic import Field

from stages.shared.diffusion.sampling import Sampling
from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained


class Attention(Section):
    images: int = Field(ge=1)


class Params(Section):
    base: Pretrained
    synth: Sampling
    attention: Attention

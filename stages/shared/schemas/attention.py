"""Parameters of the stage attention."""

from pydantic import Field

from stages.shared.diffusion.sampling import Sampling
from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained


class Attention(Section):
    """How much is recorded."""

    images: int = Field(ge=1)  # translations whose cross-attention is averaged


class Params(Section):
    """What the stage reads of params.yaml."""

    base: Pretrained
    synth: Sampling
    attention: Attention

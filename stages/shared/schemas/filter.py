"""Parameters of the stage filter."""

from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained


class Params(Section):
    """What the stage reads of params.yaml."""

    clip: Pretrained

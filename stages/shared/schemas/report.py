"""Parameters of the stage report."""

from stages.shared.classifier.choices import Gamma
from stages.shared.methods import Name
from stages.shared.params import Section


class Synth(Section):
    gamma: Gamma


class Params(Section):
    method: Name
    synth: Synth

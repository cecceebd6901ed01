"""Parameters of the stage report."""

from typing import Any

from stages.shared.classifier.choices import Gamma
from stages.shared.methods import Name
from stages.shared.params import Section, Seed


class Data(Section):
    """The part of the dataset's parameters that the report shows."""

    name: str


class Base(Section):
    """The part of the base model that the report shows."""

    id: str


class Synth(Section):
    """The part of the synthesis' parameters that the report shows."""

    gamma: Gamma


class Params(Section):
    """What the stage reads of params.yaml."""

    seed: Seed
    method: Name
    data: Data
    base: Base
    synth: Synth
    arms: dict[str, dict[str, Any]]  # one leaf: the page asks for their names alone

"""Parameters of the stage assess."""

from importlib.util import find_spec
from typing import Literal

from stages.shared.errors import BadInput
from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained

Features = Literal["clip", "inception"]


class Data(Section):
    """Which dataset: only toybirds have a judge."""

    name: str


class Assess(Section):
    """How fidelity is assessed."""

    frechet: Features  # whose features the Fréchet distance compares


class Params(Section):
    """What the stage reads of params.yaml."""

    data: Data
    clip: Pretrained
    assess: Assess


def check_frechet(features: Features) -> None:
    """Raises BadInput for a distance whose network is not installed."""
    if features == "inception" and find_spec("torch_fidelity") is None:
        raise BadInput(
            "params.yaml: assess.frechet: inception needs `pip install torch-fidelity`; or set clip"
        )

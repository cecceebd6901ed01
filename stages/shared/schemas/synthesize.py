"""Parameters of the stage synthesize."""

from stages.shared.diffusion.sampling import Sampling
from stages.shared.errors import BadInput
from stages.shared.methods import Mode
from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained


class Synth(Sampling):
    """The sampler, and whether a reference's own background is put back into its image."""

    keep_background: bool


class Params(Section):
    """What the stage reads of params.yaml."""

    base: Pretrained
    synth: Synth


def check_mode(mode: Mode, synth: Synth) -> None:
    """Raises BadInput for a background to keep where there is none."""
    if mode == "gen" and synth.keep_background:
        raise BadInput(
            "params.yaml: synth.keep_background: mode gen has no reference whose background could "
            "be kept; set it to false, or take a -mix or -aug method"
        )

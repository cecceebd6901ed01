"""How an image is drawn, as parameters; without torch, so that they can be checked in no time."""

from collections.abc import Sequence
from itertools import pairwise

from pydantic import Field

from stages.shared.errors import BadInput
from stages.shared.params import Section


class Sampling(Section):
    """The sampler's part of params.yaml."""

    steps: int = Field(ge=1, le=500)  # of the 1,000 that the base was trained with
    guidance_scale: float = Field(ge=1)
    resolution: int = Field(ge=8)
    batch: int = Field(ge=1)


def reverse_steps(steps: int, strength: float) -> int:
    """How many of the sampler's steps a strength runs.

    As in StableDiffusionImg2ImgPipeline, but one at least.
    """
    return max(int(steps * strength), 1)


def check_steps(strengths: Sequence[float], sampling: Sampling) -> None:
    """Raises BadInput where two strengths s would run the same int(T * s) steps: T is too small."""
    counts = {strength: reverse_steps(sampling.steps, strength) for strength in sorted(strengths)}

    for one, other in pairwise(counts):
        if counts[one] == counts[other]:
            raise BadInput(
                f"params.yaml: synth.steps: of {sampling.steps} steps, strengths {one:g} and "
                f"{other:g} would both run {counts[one]}; raise it, or take other strengths"
            )

"""How an image is drawn, as parameters; without torch, so that they can be checked in no time."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from stages.shared.errors import BadInput
from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained

Sampler = Literal["dpm-solver++", "lcm", "euler", "euler-ancestral"]
TRAINED_STEPS = 1000  # of the noise schedule that Stable Diffusion was trained on
DISTILLED_STEPS = 50  # of the schedule that LCM-LoRA was distilled on, of which lcm takes some


class LcmLora(Section):
    """Where LCM-LoRA lies: a folder, or a hub id at a pinned revision; null for none."""

    id: str | None = Field(min_length=1)
    revision: str | None

    @property
    def model(self) -> Pretrained | None:
        return None if self.id is None else Pretrained(id=self.id, revision=self.revision)


class Sampling(Section):
    """The sampler's part of params.yaml."""

    sampler: Sampler
    lcm_lora: LcmLora
    steps: int = Field(ge=1, le=500)  # of the 1,000 that the base was trained with
    guidance_scale: float = Field(ge=1)
    guidance_stop: float = Field(gt=0, le=1)
    cache_interval: int | None = Field(ge=2)
    resolution: int = Field(ge=8)
    batch: int = Field(ge=1)

    @model_validator(mode="after")
    def check_guidance(self) -> "Sampling":
        """Guidance cannot stop where there is none."""
        if self.guidance_scale == 1 and self.guidance_stop < 1:
            raise ValueError(
                "guidance_stop below 1.0 does not go with guidance_scale 1, which is no guidance; "
                "set guidance_stop to 1.0, or raise guidance_scale"
            )

        return self

    @model_validator(mode="after")
    def check_lcm(self) -> "Sampling":
        """LCM-LoRA predicts for the sampler lcm alone, whose schedule has DISTILLED_STEPS."""
        if self.lcm_lora.id is not None and self.sampler != "lcm":
            raise ValueError(
                f"lcm_lora does not go with sampler {self.sampler}; "
                "set sampler to lcm, or lcm_lora.id to null"
            )

        return self


def reverse_steps(steps: int, strength: float) -> int:
    """How many of a sampler's steps a strength runs.

    As in StableDiffusionImg2ImgPipeline, but one at least.
    """
    return max(int(steps * strength), 1)


def distilled_steps(strength: float) -> int:
    """How many of the distilled steps lie below a strength, as LCMScheduler counts them."""
    return int(DISTILLED_STEPS * strength)


def steps_taken(sampling: Sampling, strength: float) -> int:
    """How many steps a translation of this strength takes.

    lcm takes all of them at any strength, from a start that depends on it, as
    LatentConsistencyModelImg2ImgPipeline does; the others leave out the first.
    """
    if sampling.sampler == "lcm":
        return sampling.steps
    return reverse_steps(sampling.steps, strength)


def guided_steps(sampling: Sampling, taken: int) -> int:
    """How many of the steps that are taken are guided, counted from the first of them.

    Rounded as by diffusers' ClassifierFreeGuidance(stop=...).
    """
    return int(sampling.guidance_stop * taken) if sampling.guidance_scale > 1 else 0


def forward_passes(sampling: Sampling, strength: float) -> int:
    """How often the UNet sees an image: a guided step shows it twice."""
    taken = steps_taken(sampling, strength)
    return taken + guided_steps(sampling, taken)


def check_steps(strengths: Sequence[float], sampling: Sampling) -> None:
    """Raises BadInput where T is too small for the strengths, or none that the sampler can take.

    That is where two strengths would be one and the same, or no step of one would be guided.
    """
    for strength in strengths:
        taken = steps_taken(sampling, strength)
        if sampling.guidance_scale > 1 and not guided_steps(sampling, taken):
            raise BadInput(
                f"params.yaml: synth.guidance_stop: of the {taken} steps at strength {strength:g} "
                f"{sampling.guidance_stop:g} is none; raise it, or set guidance_scale to 1"
            )

    if sampling.sampler.startswith("euler") and trailing_steps(sampling.steps) != sampling.steps:
        raise BadInput(
            f"params.yaml: synth.steps: {sampling.sampler} would take {sampling.steps + 1} steps "
            f"for {sampling.steps}, by rounding in diffusers; take another number"
        )

    if sampling.sampler == "lcm":
        check_distilled_steps(strengths, sampling.steps)
        return

    counts = {strength: reverse_steps(sampling.steps, strength) for strength in sorted(strengths)}

    for one, other in pairwise(counts):
        if counts[one] == counts[other]:
            raise BadInput(
                f"params.yaml: synth.steps: of {sampling.steps} steps, strengths {one:g} and "
                f"{other:g} would both run {counts[one]}; raise it, or take other strengths"
            )


def trailing_steps(steps: int) -> int:
    """How many times diffusers' trailing spacing gives: the length of arange(1000, 0, -1000/T)."""
    return math.ceil((0 - TRAINED_STEPS) / (-TRAINED_STEPS / steps))


def check_distilled_steps(strengths: Sequence[float], steps: int) -> None:
    """`check_steps` for lcm.

    There must be enough distilled steps below a strength to take `steps` of, and two strengths must
    not start at the same one.
    """
    starts = {strength: distilled_steps(strength) for strength in sorted(strengths)}

    lowest = min(starts)
    if starts[lowest] < steps:
        raise BadInput(
            f"params.yaml: synth.steps: sampler lcm has {starts[lowest]} of its {DISTILLED_STEPS} "
            f"steps below strength {lowest:g}, and cannot take {steps}; lower it, or raise "
            "the strength"
        )

    for one, other in pairwise(starts):
        if starts[one] == starts[other]:
            raise BadInput(
                f"params.yaml: synth.strength: sampler lcm would start {one:g} and {other:g} "
                f"at the same one of its {DISTILLED_STEPS} steps; take other strengths"
            )

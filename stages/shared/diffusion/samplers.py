"""diffusers' schedulers for the samplers of params.yaml, and LCM-LoRA.

DPM-Solver++ (Lu et al., 2022) is the paper's. Few steps need a model that was distilled for them:
LCM-LoRA (Luo et al., 2023) with LCMScheduler, or a Turbo base (Sauer et al., 2023) with the
scheduler of its own pipeline, which is Euler's for SD-Turbo and the ancestral one for SDXL-Turbo.
"""

from typing import Any

from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
)
from safetensors import SafetensorError
from torch import Tensor

from stages.shared.diffusion.base_model import Pipeline, fuse_lora
from stages.shared.diffusion.reuse import reuse_features
from stages.shared.diffusion.sampling import (
    DISTILLED_STEPS,
    LcmLora,
    Sampler,
    Sampling,
    reverse_steps,
)
from stages.shared.pretrained.files import LORA, find_folder, unloadable

# with what they change in the base's own configuration
SCHEDULERS: dict[Sampler, tuple[Any, dict[str, Any]]] = {
    "dpm-solver++": (DPMSolverMultistepScheduler, {}),
    "lcm": (LCMScheduler, {"original_inference_steps": DISTILLED_STEPS}),
    "euler": (EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
}


def use_sampling(pipeline: Pipeline, sampling: Sampling) -> None:
    """Let the pipeline sample so from now on.

    Another scheduler takes over the configuration of the one before; so a pipeline may change all
    but its sampler later.
    """
    scheduler, changes = SCHEDULERS[sampling.sampler]
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **changes)
    reuse_features(pipeline.unet, sampling.cache_interval)


def set_times(pipeline: Pipeline, sampling: Sampling, strength: float) -> Tensor:
    """Set the scheduler to an image of this strength; the times of the steps to take.

    Images from noise have strength 1. lcm spreads all of its steps below the strength; the others
    leave out the first of theirs (see `steps_taken`).
    """
    scheduler = pipeline.scheduler

    if sampling.sampler == "lcm":
        scheduler.set_timesteps(sampling.steps, device=pipeline.device, strength=strength)
        first = 0
    else:
        scheduler.set_timesteps(sampling.steps, device=pipeline.device)
        first = sampling.steps - reverse_steps(sampling.steps, strength)

    scheduler.set_begin_index(first)
    return scheduler.timesteps[first:]


def load_lcm_lora(pipeline: Pipeline, lcm_lora: LcmLora) -> None:
    """Fuse LCM-LoRA into the UNet, beside what is fused already; nothing where none is named.

    Raises BadInput for files that are missing, cannot be fetched, or do not fit the base.
    """
    if lcm_lora.model is None:
        return

    folder = find_folder("synth.lcm_lora", lcm_lora.model, LORA)
    try:
        fuse_lora(pipeline, folder)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise unloadable("synth.lcm_lora", lcm_lora.model, error) from None

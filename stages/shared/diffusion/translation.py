"""Translate (SDEdit) or generate a plan's images with the fine-tuned model, Sec. 3.4 and Eq. 2.

For equal seeds the images agree with those of diffusers' own image-to-image and text-to-image
pipelines, one image at a time.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from stages.shared.diffusion.base_model import (
    Pipeline,
    check_resolution,
    encode_pixels,
    load_base,
    load_finetuned,
    square,
    to_bytes,
)
from stages.shared.diffusion.reuse import advance_features
from stages.shared.diffusion.samplers import load_lcm_lora, set_times, use_sampling
from stages.shared.diffusion.sampling import Sampling, guided_steps
from stages.shared.diffusion.text import Text, encode_prompts, predict
from stages.shared.errors import BadInput
from stages.shared.manifests import TEXT
from stages.shared.methods import Strategy
from stages.shared.paths import FINETUNE, SUBSAMPLE
from stages.shared.pretrained.reference import Pretrained
from stages.shared.prompts import class_prompts
from stages.shared.running.runtime import to_device, to_host
from stages.shared.tables import Table

PLAN_COLUMNS = ["key", "source_key", "source_label", "target_label", "strength", "seed"]


class Start(NamedTuple):
    """What a batch of translations starts from, read and drawn on the CPU."""

    pixels: Tensor | None  # the references, bytes (n, 3, side, side); None: from noise alone
    spread: Tensor | None  # what draws their latents from their posteriors, (n, c, h, w)
    noise: Tensor  # (n, c, h, w)
    generators: list[torch.Generator]  # that have drawn it, for samplers that add more


class References:
    """The training images that a plan refers to.

    Each batch encodes its own: this is a small part of its work, and needs no memory.
    """

    def __init__(self, pipeline: Pipeline, table: Table, sampling: Sampling):
        self.pipeline = pipeline
        self.table = table
        self.sampling = sampling
        self.rows = {key: row for row, key in enumerate(table.rows["key"])}

    def start(self, rows: pd.DataFrame) -> Start:
        """What a batch of the plan starts from, each image by its own seed.

        Needs no device, so that a thread can do it ahead. What is random is drawn on the CPU, and
        so is the same on every device.
        """
        side = self.sampling.resolution
        generators = [torch.Generator().manual_seed(int(seed)) for seed in rows["seed"]]
        draw = partial(draw_noise, self.pipeline, side, generators)

        if (rows["source_key"] == "").all():
            return Start(None, None, draw(self.pipeline.unet.dtype), generators)

        pixels = to_bytes(self.images(rows["source_key"]), side)
        spread = draw(self.pipeline.vae.dtype)
        return Start(pixels, spread, draw(self.pipeline.unet.dtype), generators)

    def images(self, keys: pd.Series) -> list[Image.Image]:
        """The images themselves, resized as they are for encoding."""
        side = self.sampling.resolution
        return [square(self.table.image(self.rows[key]), side) for key in keys]


def draw_noise(
    pipeline: Pipeline, resolution: int, generators: list[torch.Generator], dtype: torch.dtype
) -> Tensor:
    """Latents of noise (n, c, h, w), each image's from its own generator, on the CPU."""
    side = resolution // pipeline.vae_scale_factor
    shape = (1, pipeline.unet.config.in_channels, side, side)
    return torch.cat([torch.randn(shape, generator=each, dtype=dtype) for each in generators])


def load_translator(
    base: Pretrained, classes: pd.DataFrame, strategy: Strategy, sampling: Sampling
) -> tuple[Pipeline, Text]:
    """The fine-tuned model, and its classes' prompts as `encode_prompts` returns them.

    It samples as `sampling` says. Raises BadInput where there is no model, or the resolution or
    LCM-LoRA does not suit it.
    """
    pipeline = load_base(base)
    check_resolution(pipeline, sampling.resolution, "synth.resolution")
    use_sampling(pipeline, sampling)

    if strategy != "none" and not (FINETUNE / "losses.csv").is_file():
        raise BadInput(f"{FINETUNE}: holds no fine-tuned model; run `dvc repro finetune` first")
    load_finetuned(pipeline, FINETUNE)
    load_lcm_lora(pipeline, sampling.lcm_lora)

    return pipeline, encode_prompts(pipeline, class_prompts(classes, strategy))


def translate(
    pipeline: Pipeline, start: Start, text: Text, strength: float, sampling: Sampling
) -> Tensor:
    """Noise the references to `strength` and denoise them under their prompts (SDEdit, Eq. 2).

    text: the images' prompts and, last, the empty one. At least one reverse step is taken, also
    where int(T * s) is 0. Returns bytes (n, side, side, 3) on the device, which may still compute.
    """
    references = encode_references(pipeline, start)
    return translate_latents(
        pipeline, references, start.noise, text, strength, sampling, start.generators
    )


@torch.inference_mode()
def encode_references(pipeline: Pipeline, start: Start) -> Tensor | None:
    """A sample of each reference's posterior, unscaled; None where there is none."""
    if start.pixels is None or start.spread is None:
        return None

    latents = encode_pixels(pipeline, start.pixels)
    return latents.mean + latents.std * to_device(start.spread, pipeline.device)


@torch.inference_mode()
def translate_latents(
    pipeline: Pipeline,
    references: Tensor | None,
    noise: Tensor,
    text: Text,
    strength: float,
    sampling: Sampling,
    generators: list[torch.Generator],
) -> Tensor:
    """`translate` from latents (n, c, h, w), or None to start from noise alone."""
    times = set_times(pipeline, sampling, 1.0 if references is None else strength)
    latents = add_noise(pipeline, references, to_device(noise, pipeline.device), times)
    return decode(pipeline, denoise(pipeline, latents, times, text, sampling, generators))


def add_noise(
    pipeline: Pipeline, references: Tensor | None, noise: Tensor, times: Tensor
) -> Tensor:
    """The latents to start from: the references', scaled, as noisy as at the first of the times.

    Without references they are noise alone.
    """
    if references is None:
        return noise * pipeline.scheduler.init_noise_sigma

    scaled = references.to(noise) * pipeline.vae.config.scaling_factor
    return pipeline.scheduler.add_noise(scaled, noise, times[:1].repeat(len(noise)))


def denoise(
    pipeline: Pipeline,
    latents: Tensor,
    times: Tensor,
    text: Text,
    sampling: Sampling,
    generators: list[torch.Generator],
) -> Tensor:
    """Take the sampler's steps at `times`.

    generators: each image's, which draw the noise that lcm and euler-ancestral add at a step.
    With guidance (Ho and Salimans, 2022) each batch holds the latents twice: the first half goes
    with the empty prompt, the second with the images' own. After the guided steps only the second
    is left (Kynkäänniemi et al., 2024).
    """
    scheduler = pipeline.scheduler
    guided = guided_steps(sampling, len(times))
    both = text.guided()
    own = text.rows(slice(-1))

    for step, time in enumerate(times):
        is_guided = step < guided
        advance_features(pipeline.unet, anew=step in (0, guided))

        doubled = torch.cat([latents] * 2) if is_guided else latents
        scaled = scheduler.scale_model_input(doubled, time)
        model_input = scaled.contiguous(memory_format=torch.channels_last)
        predicted = predict(pipeline, model_input, time, both if is_guided else own)

        if is_guided:
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + sampling.guidance_scale * (conditional - unconditional)

        latents = scheduler.step(predicted, time, latents, generator=generators).prev_sample

    return latents


def decode(pipeline: Pipeline, latents: Tensor) -> Tensor:
    """The images that the autoencoder makes of scaled latents, bytes (n, side, side, 3)."""
    unscaled = (latents / pipeline.vae.config.scaling_factor).to(pipeline.vae.dtype)
    decoded = pipeline.vae.decode(unscaled).sample

    # as diffusers' image processor does, but on the device: a byte is copied, not a float
    pixels = (decoded * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    return (pixels.float() * 255).round().to(torch.uint8)


def translate_rows(
    pipeline: Pipeline, text: Text, rows: pd.DataFrame, sampling: Sampling, start: Start
) -> Tensor:
    """`translate` for a plan's rows of one strength; `text` is all classes' and the empty one."""
    prompts = text.rows([*rows["target_label"], -1])
    return translate(pipeline, start, prompts, float(rows["strength"].iloc[0]), sampling)


def to_images(pixels: Tensor) -> Callable[[], list[Image.Image]]:
    """Start to copy bytes (n, side, side, 3) from the device; the call waits for them."""
    host, wait = to_host(pixels)

    def images() -> list[Image.Image]:
        wait()
        return [Image.fromarray(each) for each in host.numpy()]

    return images


def buckets(rows: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Batches of one strength each, so that all images of a batch take the same steps."""
    for _, bucket in rows.groupby("strength", sort=True):
        for first in range(0, len(bucket), size):
            yield bucket.iloc[first : first + size]


def fill(batch: pd.DataFrame, size: int) -> pd.DataFrame:
    """The batch, its last row repeated until it is whole.

    So an image's bits depend on the size of batches alone, not on how many images there are; and a
    compiled UNet meets one shape.
    """
    return batch.iloc[[*range(len(batch)), *[len(batch) - 1] * (size - len(batch))]]


def read_plan(path: Path, sources: pd.DataFrame) -> pd.DataFrame:
    """The plan, checked against the table that it refers to; raises BadInput."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no plan; run `dvc repro plan` first")

    plan = pd.read_csv(path, dtype=TEXT, keep_default_na=False)  # type: ignore[arg-type]
    if list(plan.columns) != PLAN_COLUMNS:
        raise BadInput(
            f"{path}: columns must be {', '.join(PLAN_COLUMNS)}; run `dvc repro -f plan`"
        )

    unknown = set(plan["source_key"]) - set(sources["key"]) - {""}
    if unknown:
        raise BadInput(
            f"{path}: source_key {min(unknown)!r} is not in {SUBSAMPLE}; run `dvc repro -f plan`"
        )

    return plan

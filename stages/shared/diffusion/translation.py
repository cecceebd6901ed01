"""Translate (SDEdit) or generate a plan's images with the fine-tuned model, Sec. 3.4 and Eq. 2.

For equal seeds the images agree with those of diffusers' own image-to-image and text-to-image
pipelines, one image at a time.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from stages.shared.diffusion.base_model import (
    Pipeline,
    check_resolution,
    encode_moments,
    load_base,
    load_finetuned,
    square,
)
from stages.shared.diffusion.sampling import Sampling, reverse_steps
from stages.shared.diffusion.text import Text, encode_prompts, predict
from stages.shared.errors import BadInput
from stages.shared.manifests import TEXT
from stages.shared.methods import Strategy
from stages.shared.paths import FINETUNE, SUBSAMPLE
from stages.shared.pretrained.reference import Pretrained
from stages.shared.prompts import class_prompts
from stages.shared.tables import Table

PLAN_COLUMNS = ["key", "source_key", "source_label", "target_label", "strength", "seed"]
KEPT_GROUPS = 512  # of encoded references; of 32 images at 512 pixels, 1 GiB in half precision


class References:
    """The training images that a plan refers to, each encoded once.

    They are encoded when they are first needed, in groups that are the same whoever needs them.
    """

    def __init__(self, pipeline: Pipeline, table: Table, sampling: Sampling):
        self.pipeline = pipeline
        self.table = table
        self.sampling = sampling
        self.rows = {key: row for row, key in enumerate(table.rows["key"])}
        self._group = lru_cache(KEPT_GROUPS)(self._encode)

    def latents(self, keys: pd.Series, generators: list[torch.Generator]) -> Tensor:
        """A sample of each image's posterior, drawn with the image's own generator, unscaled."""
        sampled = []

        for key, generator in zip(keys, generators, strict=True):
            group, place = divmod(self.rows[key], self.sampling.batch)
            means, deviations = self._group(group)
            mean = means[place : place + 1]
            noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
            sampled.append(mean + deviations[place : place + 1] * noise)

        return torch.cat(sampled)

    def _encode(self, group: int) -> tuple[Tensor, Tensor]:
        size = self.sampling.batch
        rows = range(group * size, min((group + 1) * size, len(self.table)))
        return encode_moments(self.pipeline, self.table, rows, self.sampling.resolution, size)

    def images(self, keys: pd.Series) -> list[Image.Image]:
        """The images themselves, resized as they were for encoding."""
        side = self.sampling.resolution
        return [square(self.table.image(self.rows[key]), side) for key in keys]


def load_translator(
    base: Pretrained, classes: pd.DataFrame, strategy: Strategy, resolution: int
) -> tuple[Pipeline, Text]:
    """The fine-tuned model, and its classes' prompts as `encode_prompts` returns them.

    Raises BadInput where there is no model, or `resolution` does not suit it.
    """
    pipeline = load_base(base)
    check_resolution(pipeline, resolution, "synth.resolution")

    if strategy != "none" and not (FINETUNE / "losses.csv").is_file():
        raise BadInput(f"{FINETUNE}: holds no fine-tuned model; run `dvc repro finetune` first")
    load_finetuned(pipeline, FINETUNE)

    return pipeline, encode_prompts(pipeline, class_prompts(classes, strategy))


@torch.inference_mode()
def translate(
    pipeline: Pipeline,
    references: Tensor | None,
    text: Text,
    strength: float,
    sampling: Sampling,
    generators: list[torch.Generator],
) -> list[Image.Image]:
    """Noise the references to `strength` and denoise them under their prompts (SDEdit, Eq. 2).

    references: unscaled latents (n, c, h, w), or None to start from noise alone.
    text: the images' prompts and, last, the empty one.
    At least one reverse step is taken, also where int(T * s) is 0.
    """
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(sampling.steps, device=pipeline.device)
    first = 0 if references is None else sampling.steps - reverse_steps(sampling.steps, strength)
    scheduler.set_begin_index(first)
    times = scheduler.timesteps[first:]

    noise = draw_noise(pipeline, sampling.resolution, generators)
    latents = start(pipeline, references, noise, times)
    return decode(pipeline, denoise(pipeline, latents, times, text, sampling.guidance_scale))


def draw_noise(pipeline: Pipeline, resolution: int, generators: list[torch.Generator]) -> Tensor:
    """Latents of noise (n, c, h, w), each image's from its own generator.

    They are drawn on the CPU, so that they are the same on every device.
    """
    dtype = pipeline.unet.dtype
    side = resolution // pipeline.vae_scale_factor
    shape = (1, pipeline.unet.config.in_channels, side, side)
    noises = [torch.randn(shape, generator=generator, dtype=dtype) for generator in generators]

    return torch.cat(noises).to(pipeline.device)


def start(pipeline: Pipeline, references: Tensor | None, noise: Tensor, times: Tensor) -> Tensor:
    """The latents to start from: the references', scaled, as noisy as at the first of the times.

    Without references they are noise alone.
    """
    if references is None:
        return noise * pipeline.scheduler.init_noise_sigma

    scaled = references.to(noise) * pipeline.vae.config.scaling_factor
    return pipeline.scheduler.add_noise(scaled, noise, times[:1].repeat(len(noise)))


def denoise(
    pipeline: Pipeline, latents: Tensor, times: Tensor, text: Text, guidance_scale: float
) -> Tensor:
    """Take the sampler's steps at `times`.

    With guidance (Ho and Salimans, 2022) each batch holds the latents twice: the first half goes
    with the empty prompt, the second with the images' own.
    """
    scheduler = pipeline.scheduler
    guided = guidance_scale > 1
    conditioning = text.guided() if guided else text.rows(slice(-1))

    for time in times:
        doubled = torch.cat([latents] * 2) if guided else latents
        scaled = scheduler.scale_model_input(doubled, time)
        model_input = scaled.contiguous(memory_format=torch.channels_last)
        predicted = predict(pipeline, model_input, time, conditioning)

        if guided:
            unconditional, conditional = predicted.chunk(2)
            predicted = unconditional + guidance_scale * (conditional - unconditional)

        latents = scheduler.step(predicted, time, latents, return_dict=False)[0]

    return latents


def decode(pipeline: Pipeline, latents: Tensor) -> list[Image.Image]:
    """The images that the autoencoder makes of scaled latents."""
    unscaled = (latents / pipeline.vae.config.scaling_factor).to(pipeline.vae.dtype)
    decoded = pipeline.vae.decode(unscaled).sample
    return pipeline.image_processor.postprocess(decoded, output_type="pil")


def translate_rows(
    pipeline: Pipeline, references: References, text: Text, rows: pd.DataFrame, sampling: Sampling
) -> list[Image.Image]:
    """The images of rows of one strength, each from its own seed.

    `text` is what `encode_prompts` returns for all classes.
    """
    generators = [torch.Generator().manual_seed(int(seed)) for seed in rows["seed"]]
    strength = float(rows["strength"].iloc[0])

    generated = (rows["source_key"] == "").all()
    latents = None if generated else references.latents(rows["source_key"], generators)
    prompts = text.rows([*rows["target_label"], -1])

    return translate(pipeline, latents, prompts, strength, sampling, generators)


def buckets(rows: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Batches of one strength each, so that all images of a batch take the same steps."""
    for _, bucket in rows.groupby("strength", sort=True):
        for first in range(0, len(bucket), size):
            yield bucket.iloc[first : first + size]


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

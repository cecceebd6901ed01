"""Translate (SDEdit) or generate the images of a plan with the fine-tuned model, Sec. 3.4 and Eq. 2.

Agrees with diffusers' own image-to-image and text-to-image pipelines, one image at a time, for equal seeds.
"""

from collections.abc import Iterator
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
from stages.shared.methods import Strategy
from stages.shared.paths import FINETUNE, SUBSAMPLE
from stages.shared.pretrained.reference import Pretrained
from stages.shared.prompts import class_prompts
from stages.shared.tables import TEXT, Table

PLAN_COLUMNS = ["key", "source_key", "source_label", "target_label", "strength", "seed"]


class References:
    """The training images that some rows of a plan refer to, each encoded once."""

    def __init__(self, pipeline: Pipeline, table: Table, keys: pd.Series, sampling: Sampling):
        self.table, self.resolution = table, sampling.resolution
        self.rows = {key: row for row, key in enumerate(table.rows["key"])}
        wanted = sorted(set(keys) - {""})
        self.index = {key: index for index, key in enumerate(wanted)}
        if wanted:
            rows = [self.rows[key] for key in wanted]
            self.means, self.deviations = encode_moments(
                pipeline, table, rows, sampling.resolution, sampling.batch
            )

    def latents(self, keys: pd.Series, generators: list[torch.Generator]) -> Tensor:
        """A sample of each image's posterior, drawn with the image's own generator, unscaled."""
        chosen = [self.index[key] for key in keys]
        shape, dtype = self.means[:1].shape, self.means.dtype
        noise = torch.cat(
            [torch.randn(shape, generator=generator, dtype=dtype) for generator in generators]
        )
        return self.means[chosen] + self.deviations[chosen] * noise

    def images(self, keys: pd.Series) -> list[Image.Image]:
        """What was encoded: the images themselves, resized."""
        return [square(self.table.image(self.rows[key]), self.resolution) for key in keys]


def load_translator(
    base: Pretrained, classes: pd.DataFrame, strategy: Strategy, resolution: int
) -> tuple[Pipeline, Text]:
    """The fine-tuned model, and its classes' prompts as `encode_prompts` returns them."""
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
    """Noise the references to `strength` and denoise them under their prompts (SDEdit, Eq. 2); None starts from noise.

    references: unscaled latents (n, c, h, w); text: the images' prompts and, last, the empty one. At least one reverse
    step is taken, also where int(T * s) is 0.
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
    """Latents of noise, each image's from its own generator, on the CPU: the same on every device."""
    side, unet = resolution // pipeline.vae_scale_factor, pipeline.unet
    shape = (1, unet.config.in_channels, side, side)
    noise = torch.cat(
        [torch.randn(shape, generator=generator, dtype=unet.dtype) for generator in generators]
    )
    return noise.to(pipeline.device)


def start(pipeline: Pipeline, references: Tensor | None, noise: Tensor, times: Tensor) -> Tensor:
    """The references' latents, scaled, as noisy as the first of the times asks for; without references noise alone."""
    if references is None:
        return noise * pipeline.scheduler.init_noise_sigma
    scaled = references.to(noise) * pipeline.vae.config.scaling_factor
    return pipeline.scheduler.add_noise(scaled, noise, times[:1].repeat(len(noise)))


def denoise(
    pipeline: Pipeline, latents: Tensor, times: Tensor, text: Text, guidance_scale: float
) -> Tensor:
    """The sampler's steps; with guidance (Ho and Salimans, 2022) the conditional half of a batch is its second."""
    scheduler, guided = pipeline.scheduler, guidance_scale > 1
    heard = text.guided() if guided else text.rows(slice(-1))
    for time in times:
        doubled = torch.cat([latents] * 2) if guided else latents
        model_input = scheduler.scale_model_input(doubled, time).contiguous(
            memory_format=torch.channels_last
        )
        predicted = predict(pipeline, model_input, time, heard)
        if guided:
            free, conditional = predicted.chunk(2)
            predicted = free + guidance_scale * (conditional - free)
        latents = scheduler.step(predicted, time, latents, return_dict=False)[0]
    return latents


def decode(pipeline: Pipeline, latents: Tensor) -> list[Image.Image]:
    unscaled = (latents / pipeline.vae.config.scaling_factor).to(pipeline.vae.dtype)
    return pipeline.image_processor.postprocess(
        pipeline.vae.decode(unscaled).sample, output_type="pil"
    )


def translate_rows(
    pipeline: Pipeline, references: References, text: Text, rows: pd.DataFrame, sampling: Sampling
) -> list[Image.Image]:
    """The images of rows of one strength, each from its own seed; `text` is `encode_prompts`' of all classes."""
    generators = [torch.Generator().manual_seed(int(seed)) for seed in rows["seed"]]
    generated = (rows["source_key"] == "").all()
    latents = None if generated else references.latents(rows["source_key"], generators)
    prompts = text.rows([*rows["target_label"], -1])
    return translate(
        pipeline, latents, prompts, float(rows["strength"].iloc[0]), sampling, generators
    )


def buckets(rows: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Batches of one strength each, so that all images of a batch take the same steps."""
    for _, bucket in rows.groupby("strength", sort=True):
        for first in range(0, len(bucket), size):
            yield bucket.iloc[first : first + size]


def read_plan(path: Path, sources: pd.DataFrame) -> pd.DataFrame:
    """The plan, checked against the table that it refers to."""
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

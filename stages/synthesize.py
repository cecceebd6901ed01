"""Execute the plan: translate (SDEdit) or generate its images with the fine-tuned model, Sec. 3.4 and Eq. 2.

Reads data/plan/plan.csv, the training table, classes.csv and data/finetune/. Writes data/synthesize/, an image table.
Agrees with StableDiffusionImg2ImgPipeline and StableDiffusionPipeline, one image at a time, for equal seeds.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from stages.shared.diffusion import Base, check_resolution, encode_moments, load_base, load_finetuned
from stages.shared.errors import BadInput
from stages.shared.params import Section, load
from stages.shared.prompts import Strategy, class_prompts
from stages.shared.runtime import batch_size, device, precision, seed_everything
from stages.shared.tables import (
    SHARD_ROWS,
    TEXT,
    Table,
    encode_png,
    place_rows,
    read_classes,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard,
)
from stages.shared.work import fingerprint, publish, work_folder

PLAN, SOURCES, DATA = Path("data/plan/plan.csv"), Path("data/subsample"), Path("data/download")
FINETUNED, OUTPUT = Path("data/finetune"), Path("data/synthesize")
PLAN_COLUMNS = ["key", "source_key", "source_label", "target_label", "strength", "seed"]


class Finetune(Section):
    strategy: Strategy


class Synth(Section):
    steps: int = Field(ge=1)
    guidance_scale: float = Field(ge=1)
    resolution: int = Field(ge=8)


class Params(Section):
    base: Base
    finetune: Finetune
    synth: Synth


class References:
    """The training images that a shard refers to, each encoded once."""

    def __init__(self, pipeline: StableDiffusionPipeline, table: Table, keys: pd.Series, resolution: int):
        rows = {key: row for row, key in enumerate(table.rows["key"])}
        wanted = sorted(set(keys) - {""})
        self.index = {key: index for index, key in enumerate(wanted)}
        if wanted:
            self.means, self.deviations = encode_moments(pipeline, table, [rows[key] for key in wanted], resolution)

    def latents(self, keys: pd.Series, generators: list[torch.Generator]) -> Tensor:
        """A sample of each image's posterior, drawn with the image's own generator, unscaled."""
        chosen = [self.index[key] for key in keys]
        shape, dtype = self.means[:1].shape, self.means.dtype
        noise = torch.cat([torch.randn(shape, generator=generator, dtype=dtype) for generator in generators])
        return self.means[chosen] + self.deviations[chosen] * noise


@torch.inference_mode()
def encode_prompts(pipeline: StableDiffusionPipeline, prompts: list[str]) -> Tensor:
    """Text states, (len(prompts) + 1, length, width); the last is the empty prompt's, for guidance."""
    ids = pipeline.tokenizer([*prompts, ""], padding="max_length", truncation=True, return_tensors="pt").input_ids
    return torch.cat([pipeline.text_encoder(part.to(pipeline.device))[0] for part in ids.split(batch_size())])


@torch.inference_mode()
def translate(
    pipeline: StableDiffusionPipeline,
    references: Tensor | None,
    states: Tensor,
    empty: Tensor,
    strength: float,
    synth: Synth,
    generators: list[torch.Generator],
) -> list[Image.Image]:
    """Noise the references to `strength` and denoise them under their prompts (SDEdit); None starts from noise.

    references: unscaled latents (n, c, h, w); states: (n, length, width); empty: (length, width). At least one reverse
    step is taken, also where int(T * s) is 0.
    """
    scheduler, unet = pipeline.scheduler, pipeline.unet
    scheduler.set_timesteps(synth.steps, device=pipeline.device)
    first = synth.steps - max(int(synth.steps * strength), 1) if references is not None else 0
    scheduler.set_begin_index(first)
    side = synth.resolution // pipeline.vae_scale_factor
    shape = (1, unet.config.in_channels, side, side)
    noise = torch.cat([torch.randn(shape, generator=generator, dtype=pipeline.dtype) for generator in generators])
    noise, times = noise.to(pipeline.device), scheduler.timesteps[first:]
    if references is None:
        latents = noise * scheduler.init_noise_sigma
    else:
        scaled = references.to(noise) * pipeline.vae.config.scaling_factor
        latents = scheduler.add_noise(scaled, noise, times[:1].repeat(len(noise)))
    guided = synth.guidance_scale > 1
    if guided:
        states = torch.cat([empty.expand_as(states), states])
    for time in times:
        doubled = torch.cat([latents] * 2) if guided else latents
        model_input = scheduler.scale_model_input(doubled, time).contiguous(memory_format=torch.channels_last)
        predicted = unet(model_input, time, encoder_hidden_states=states).sample
        if guided:
            free, conditional = predicted.chunk(2)
            predicted = free + synth.guidance_scale * (conditional - free)
        latents = scheduler.step(predicted, time, latents, return_dict=False)[0]
    decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
    return pipeline.image_processor.postprocess(decoded, output_type="pil")


def buckets(rows: pd.DataFrame, size: int) -> Iterator[pd.DataFrame]:
    """Batches of one strength each, so that all images of a batch take the same steps."""
    for _, bucket in rows.groupby("strength", sort=True):
        for first in range(0, len(bucket), size):
            yield bucket.iloc[first : first + size]


def synthesize(pipeline, table: Table, states: Tensor, rows: pd.DataFrame, synth: Synth, bar: tqdm) -> list[bytes]:
    """The encoded images of `rows`, in their order."""
    references = References(pipeline, table, rows["source_key"], synth.resolution)
    made: dict[str, bytes] = {}
    with ThreadPoolExecutor() as pool:  # encoders release the GIL
        for batch in buckets(rows, batch_size()):
            generators = [torch.Generator().manual_seed(int(seed)) for seed in batch["seed"]]
            generated = (batch["source_key"] == "").all()
            latents = None if generated else references.latents(batch["source_key"], generators)
            prompts = states[torch.tensor(batch["target_label"].to_numpy())]
            strength = float(batch["strength"].iloc[0])
            images = translate(pipeline, latents, prompts, states[-1], strength, synth, generators)
            made.update(zip(batch["key"], pool.map(encode_png, images), strict=True))
            bar.update(len(batch))
    return [made[key] for key in rows["key"]]


def make_shard(work: Path, shard: str, rows: pd.DataFrame, make: Callable[[pd.DataFrame], list[bytes]]) -> pd.DataFrame:
    """Make a shard unless an earlier run finished it; returns its rows. The rename makes it whole or absent."""
    manifest = work / f"{shard}.csv"
    if not (manifest.exists() and (work / "result" / shard).exists()):
        places = write_shard(
            work / "unfinished", ((f"{k}.png", c) for k, c in zip(rows["key"], make(rows), strict=True))
        )
        (work / "unfinished").replace(work / "result" / shard)
        placed = place_rows(rows.assign(label=rows["target_label"]), shard, places)
        write_manifest(work, placed, "unfinished")
        (work / "unfinished").replace(manifest)
    return read_manifest(work, name=manifest.name)


def read_plan(path: Path, sources: pd.DataFrame) -> pd.DataFrame:
    """The plan, checked against the table that it refers to."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no plan; run `dvc repro plan` first")
    plan = pd.read_csv(path, dtype=TEXT, keep_default_na=False)  # type: ignore[arg-type]
    if list(plan.columns) != PLAN_COLUMNS:
        raise BadInput(f"{path}: columns must be {', '.join(PLAN_COLUMNS)}; run `dvc repro -f plan`")
    unknown = set(plan["source_key"]) - set(sources["key"]) - {""}
    if unknown:
        raise BadInput(f"{path}: source_key {min(unknown)!r} is not in {SOURCES}; run `dvc repro -f plan`")
    return plan


def make_images(params: Params, plan: pd.DataFrame, table: Table, classes: pd.DataFrame, work: Path) -> pd.DataFrame:
    """All shards of the plan, those that are there already left alone; returns the manifest."""
    shards = [(shard_name(n // SHARD_ROWS), plan.iloc[n : n + SHARD_ROWS]) for n in range(0, len(plan), SHARD_ROWS)]
    pipeline = load_base(params.base)
    check_resolution(pipeline, params.synth.resolution, "synth.resolution")
    load_finetuned(pipeline, FINETUNED)
    states = encode_prompts(pipeline, class_prompts(classes, params.finetune.strategy))
    done = sum(len(rows) for shard, rows in shards if (work / f"{shard}.csv").exists())
    with tqdm(total=len(plan), initial=done, desc="synthesize", unit="image") as bar:
        make = partial(synthesize, pipeline, table, states, synth=params.synth, bar=bar)
        return pd.concat([make_shard(work, shard, rows, make) for shard, rows in shards])


def main() -> None:
    params, classes, sources = load(Params), read_classes(DATA), read_manifest(SOURCES)
    plan, table = read_plan(PLAN, sources), Table(DATA / "train", sources)
    inputs = [PLAN, SOURCES, DATA / "train", DATA / "classes.csv", FINETUNED, Path(params.base.id)]
    mark = fingerprint(params, inputs, device(), precision(), batch_size())
    with work_folder("synthesize", mark) as work:
        seed_everything(0)
        (work / "result").mkdir(exist_ok=True)
        write_manifest(work / "result", make_images(params, plan, table, classes, work))
        publish(work / "result", OUTPUT)


if __name__ == "__main__":
    main()

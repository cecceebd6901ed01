"""A minute's calibration: the stages' own functions with a setting's own models, sizes and batches, on this machine.

Models of random weights cost what trained ones do: a classifier's are not fetched. The base and CLIP are loaded as the
stages load them.
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from diffusers import DDPMScheduler
from torch import Tensor
from tqdm import tqdm

from experiments.estimating.counts import Counts
from experiments.estimating.gauges import Gauge, Rate, measure, seconds_of_others
from experiments.estimating.pictures import (
    PHOTO,
    Loading,
    again_and_again,
    draw_photo,
    head,
    make_png,
    rows_to_load,
    time_loading,
    time_png,
)
from experiments.estimating.setting import Setting
from experiments.reproducing.environment import processor
from stages.finetune import Learner, diffusion_loss
from stages.shared.classifier.training import mixed_precision, new_state, train_step
from stages.shared.diffusion.base_model import check_resolution, encode_moments, load_base
from stages.shared.diffusion.text import encode_prompts, predict, tokenize
from stages.shared.errors import BadInput
from stages.shared.pretrained.clip import image_features, load_clip
from stages.shared.prompts import class_prompts
from stages.shared.running.runtime import (
    BATCH,
    cores,
    device,
    precision,
    seed_everything,
    training_precision,
)
from stages.shared.schemas.train import RealArm, RealParams
from stages.shared.tables import Table, read_classes, write_classes
from stages.train import weights

SECONDS = 6.0  # for each of ten parts, where one call takes no longer
FEWEST = 2  # images that batch normalisation needs


class Rates(NamedTuple):
    """What a setting's parts cost on a machine."""

    machine: str
    cores: int
    others: float  # how many of the cores other processes took meanwhile, on average
    memory_meaning: str
    encode: Rate  # of a reference: read, squeezed, encoded
    step: Rate  # of the sampler: one UNet forward or, under guidance, two
    decode: Rate
    png: float  # seconds an image
    learn_encode: (
        Rate | None
    )  # as `encode`, in the precision of fine-tuning; None where nothing is learned
    learn: Rate | None  # an image's part of a step
    train: Rate
    test: Rate
    real: Loading
    synthetic: Loading
    clip: Rate | None  # None where it cannot be loaded
    clip_missing: str  # why
    png_bytes: int  # of a synthetic image
    learned_bytes: int  # LoRA and tokens
    network_bytes: int  # of a classifier


class Bench(NamedTuple):
    """What all parts share: a setting, its images, classes and pictures, and the time that each part has."""

    setting: Setting
    counts: Counts
    classes: pd.DataFrame
    photos: Table  # as the dataset's
    made: Table  # as the synthetic ones
    seconds: float


def calibrate(setting: Setting, counts: Counts, scratch: Path, seconds: float = SECONDS) -> Rates:
    """Measure all parts, a few seconds each.

    Raises BadInput for a base that cannot be loaded, and for what does not fit into a GPU's memory at all.
    """
    seed_everything(0)  # as the stages do: deterministic kernels, two threads
    parts = [time_synthesis, time_learning, time_classifier, time_pictures, time_clip]
    bench = prepare(setting, counts, scratch, seconds)
    found, began, others = describe(), time.monotonic(), seconds_of_others()
    for part in tqdm(parts, desc="calibrate", unit="part", leave=False):
        found |= part(bench)
    taken = (seconds_of_others() - others) / (time.monotonic() - began)
    return Rates(others=max(taken, 0.0), **found)


def describe() -> dict[str, Any]:
    """The machine, in words."""
    on_gpu, count = device().type == "cuda", cores()
    name = torch.cuda.get_device_name(device()) if on_gpu else processor()
    memory = (
        "the GPU's, as torch allocates it"
        if on_gpu
        else "growth of the process, beyond a GiB of libraries, in proportion for larger batches"
    )
    kinds = " and ".join(
        sorted({str(kind).removeprefix("torch.") for kind in (precision(), training_precision())})
    )
    return {
        "machine": f"{name}, {count} cores; diffusion in {kinds}",
        "cores": count,
        "memory_meaning": memory,
    }


def prepare(setting: Setting, counts: Counts, scratch: Path, seconds: float) -> Bench:
    """Tables with as many rows as the largest batch needs."""
    classes, photos = len(counts.images.per_class), counts.images.photos or [draw_photo(*PHOTO)]
    write_classes(scratch, [f"class {index}" for index in range(classes)], setting.metaclass)
    rows = max(setting.finetune.batch, setting.synth.batch, BATCH, rows_to_load(setting.train))
    made = [make_png(photo, setting.synth.resolution) for photo in photos]
    as_real, as_made = (
        again_and_again(scratch / name, images, rows)
        for name, images in (("r", photos), ("s", made))
    )
    return Bench(setting, counts, read_classes(scratch), as_real, as_made, seconds)


def time_synthesis(bench: Bench) -> dict[str, Any]:
    """The parts of an image's synthesis, as stages/shared/diffusion/translation.py puts them together."""
    gauge, synth = Gauge(), bench.setting.synth
    pipeline = load_base(bench.setting.base)
    check_resolution(pipeline, synth.resolution, "synth.resolution")
    pipeline.scheduler.set_timesteps(synth.steps, device=pipeline.device)
    text, halves = encode_prompts(pipeline, ["a photo"]), 2 if synth.guidance_scale > 1 else 1

    def encode(size: int) -> None:
        encode_moments(pipeline, bench.photos, range(size), synth.resolution, size)

    @torch.inference_mode()
    def step(size: int) -> None:
        latents = torch.cat([noise(pipeline, size, synth.resolution)] * halves)
        heard = text.rows([1] * size * (halves - 1) + [0] * size)
        predict(
            pipeline,
            latents.contiguous(memory_format=torch.channels_last),
            pipeline.scheduler.timesteps[0],
            heard,
        )

    @torch.inference_mode()
    def decode(size: int) -> None:
        latents = noise(pipeline, size, synth.resolution) / pipeline.vae.config.scaling_factor
        pipeline.image_processor.postprocess(
            pipeline.vae.decode(latents.to(pipeline.vae.dtype)).sample, "pil"
        )

    parts = {"encode": encode, "step": step, "decode": decode}
    rates = {
        name: measure(f"synth.batch: {name}", parts[name], synth.batch, bench.seconds, gauge)
        for name in parts
    }
    return rates | {"png": time_png([bench.made.image(row) for row in range(synth.batch)])}


def noise(pipeline: Any, size: int, resolution: int) -> Tensor:
    """Latents of the UNet's type on its device."""
    side = resolution // pipeline.vae_scale_factor
    latents = torch.randn(size, pipeline.unet.config.in_channels, side, side)
    return latents.to(pipeline.device, pipeline.unet.dtype)


def time_learning(bench: Bench) -> dict[str, Any]:
    """The parts of fine-tuning, where there is any."""
    gauge, params, strategy = Gauge(), bench.setting.finetune, bench.setting.method.strategy
    if strategy == "none":
        return {"learn_encode": None, "learn": None, "learned_bytes": 0}
    pipeline = load_base(bench.setting.base, training_precision())
    check_resolution(pipeline, params.resolution, "finetune.resolution")

    def encode(size: int) -> None:
        encode_moments(pipeline, bench.photos, range(size), params.resolution, size)

    encoding = measure("finetune.batch: encode", encode, params.batch, bench.seconds, gauge)
    learner = Learner(pipeline, bench.classes, strategy, params)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    ids, generator = (
        tokenize(pipeline, class_prompts(bench.classes.head(1), strategy)),
        torch.Generator(),
    )

    def learn(size: int) -> None:
        latents, mine = noise(pipeline, size, params.resolution).float().cpu(), list(range(size))
        learner.step(
            diffusion_loss(pipeline, scheduler, latents, ids.expand(size, -1, -1), generator, mine)
        )

    learning = measure("finetune.batch: step", learn, params.batch, bench.seconds, gauge)
    learned = sum(parameter.nbytes for parameter in learner.parameters)
    return {"learn_encode": encoding, "learn": learning, "learned_bytes": learned}


def time_classifier(bench: Bench) -> dict[str, Any]:
    """A step of training at its batch, and answers at the one that `answer` takes, four times as large."""
    gauge, params = Gauge(), bench.setting.train.model_copy(update={"pretrained": False})
    plain = RealParams(
        seed=0, train=params, arm=RealArm(mix="none", mix_probability=0.0, reweight="none")
    )
    state = new_state(plain, len(bench.classes), 0)
    network, shape = state["network"], (3, params.resolution, params.resolution)

    def train(size: int) -> None:
        images, labels = (
            torch.zeros(size, *shape, dtype=torch.uint8),
            torch.ones(size, len(bench.classes)),
        )
        train_step(state, images.to(device()).float(), labels.to(device()), None, rate=0.0)

    @torch.inference_mode()
    def test(size: int) -> None:
        with mixed_precision():
            network(torch.zeros(size, *shape, dtype=torch.uint8).to(device())).float().cpu()

    train(FEWEST)  # gradients and momentum are there from the second step on
    training = measure("train.batch: step", train, params.batch, bench.seconds, gauge, FEWEST)
    network.eval()
    state["optimizer"].zero_grad()
    testing = measure("train.batch: test", test, 4 * params.batch, bench.seconds, gauge)
    size = sum(tensor.nbytes for tensor in weights(network).values())
    return {"train": training, "test": testing, "network_bytes": size}


def time_pictures(bench: Bench) -> dict[str, Any]:
    """Loading for the classifier; and how large a synthetic image is."""
    train, counts = bench.setting.train, bench.counts
    real, synthetic = (
        time_loading(bench.photos, train, counts.rows),
        time_loading(bench.made, train, len(counts.plan)),
    )
    return {"real": real, "synthetic": synthetic} | {
        "png_bytes": round(bench.made.rows["size"].mean())
    }


def time_clip(bench: Bench) -> dict[str, Any]:
    """CLIP's look at an image, reading it included; of a CLIP that cannot be loaded, the reason."""
    gauge = Gauge()
    try:
        clip = load_clip(bench.setting.clip)
    except BadInput as error:
        return {"clip": None, "clip_missing": str(error)}

    def look(size: int) -> None:
        image_features(head(bench.made, size), *clip)

    return {"clip": measure("CLIP", look, BATCH, bench.seconds, gauge), "clip_missing": ""}

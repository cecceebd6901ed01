"""Time the stages' own functions with a setting's own models, sizes and batches, on this machine.

A classifier of random weights costs what a trained one does, so that none is fetched. The base and
CLIP are loaded as the stages load them.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from experiments.estimating.counts import Counts
from experiments.estimating.pictures import draw_photo, repeat_photos, time_loading
from experiments.estimating.timing import Rate, time_batch
from experiments.reproducing.environment import processor
from experiments.tables.recipes import Tree
from stages.finetune import Batch, Learner, batch_parts, diffusion_loss
from stages.shared.classifier.training import new_state, train_step
from stages.shared.diffusion.base_model import check_resolution, encode_moments, load_base
from stages.shared.diffusion.text import encode_prompts, tokenize
from stages.shared.diffusion.translation import decode, denoise, draw_noise, to_images
from stages.shared.manifests import read_classes, write_classes
from stages.shared.params import pick
from stages.shared.pretrained.clip import image_features, load_clip
from stages.shared.prompts import class_prompts
from stages.shared.running import runtime
from stages.shared.running.forks import Partner
from stages.shared.schemas import filter, finetune, synthesize
from stages.shared.schemas.train import RealArm, RealParams, Train
from stages.shared.tables import Table, encode_png
from stages.shared.watching.progress import Progress
from stages.train import weights

ROWS = 256  # of the table of stand-ins, where no batch is larger
LEAST_TRAINED = 2  # images that batch normalisation needs


class Rates(NamedTuple):
    """What the parts of a run cost on a machine."""

    machine: str
    clip: Rate
    encoding: Rate  # of a training image, for fine-tuning or as a reference
    sampler_step: Rate  # one UNet forward or, under guidance, two
    decoding: Rate  # to PNG
    finetune_step: Rate | None  # None where nothing is fine-tuned
    training_step: Rate
    loading: Rate  # of the classifier's images, while it trains
    network_bytes: int  # of a classifier's weights


def calibrate(tree: Tree, counts: Counts, scratch: Path) -> Rates:
    """Time all parts.

    Raises BadInput for a model that cannot be loaded, and for what does not fit into a GPU at all.
    """
    runtime.seed_everything(0)  # as the stages do: deterministic kernels, and as many threads
    on_gpu = runtime.device().type == "cuda"
    machine = torch.cuda.get_device_name(runtime.device()) if on_gpu else processor()

    rows = max(ROWS, tree["finetune"]["batch"], tree["synth"]["batch"])
    table = repeat_photos(scratch, counts.images.photos or [draw_photo()], rows)

    found: dict[str, Any] = {"machine": f"{machine}, {runtime.cores()} cores"}
    parts = [time_clip, time_synthesis, time_finetuning, time_classifier]
    for part in Progress(parts, desc="calibrate", unit="part", leave=False):
        found |= part(tree, counts, table)

    return Rates(**found)


def time_clip(tree: Tree, _counts: Counts, table: Table) -> dict[str, Any]:
    clip = load_clip(pick(filter.Params, tree).clip)

    def look(size: int) -> None:
        image_features(Table(table.folder, table.rows.iloc[:size]), *clip)

    return {"clip": time_batch("CLIP: look", runtime.BATCH, look)}


def time_synthesis(tree: Tree, _counts: Counts, table: Table) -> dict[str, Any]:
    """The parts of an image's synthesis, as stages/shared/diffusion/translation.py has them."""
    params = pick(synthesize.Params, tree)
    synth = params.synth
    pipeline = load_base(params.base)
    check_resolution(pipeline, synth.resolution, "synth.resolution")
    text = encode_prompts(pipeline, ["a photo"])
    always_guided = synth.model_copy(update={"guidance_stop": 1.0})  # where there is guidance

    def encode(size: int) -> None:
        encode_moments(pipeline, table, range(size), synth.resolution, size)

    @torch.inference_mode()
    def step(size: int) -> None:
        pipeline.scheduler.set_timesteps(synth.steps, device=pipeline.device)
        latents = noise(pipeline, size, synth.resolution)
        prompts = text.rows([0] * size + [-1])
        times = pipeline.scheduler.timesteps[:1]
        denoise(pipeline, latents, times, prompts, always_guided, draws(size))

    @torch.inference_mode()
    def make_png(size: int) -> None:
        for image in to_images(decode(pipeline, noise(pipeline, size, synth.resolution)))():
            encode_png(image)

    return {
        "encoding": time_batch("synth.batch: encoding", synth.batch, encode),
        "sampler_step": time_batch("synth.batch: step", synth.batch, step),
        "decoding": time_batch("synth.batch: decoding", synth.batch, make_png),
    }


def noise(pipeline: Any, size: int, resolution: int) -> Tensor:
    noises = draw_noise(pipeline, resolution, draws(size), pipeline.unet.dtype)
    return noises.to(pipeline.device)


def draws(size: int) -> list[torch.Generator]:
    return [torch.Generator() for _ in range(size)]


def time_finetuning(tree: Tree, counts: Counts, table: Table) -> dict[str, Any]:
    """A step of fine-tuning, where there is any."""
    strategy = counts.method.strategy
    if strategy == "none":
        return {"finetune_step": None}

    params = pick(finetune.Params, tree)
    options = params.finetune
    pipeline = load_base(params.base, runtime.training_precision())
    check_resolution(pipeline, options.resolution, "finetune.resolution")

    names = [f"class {label}" for label in range(len(counts.images.per_class))]
    write_classes(table.folder, names, "photo")
    classes = read_classes(table.folder)
    learner = Learner(pipeline, classes, strategy, options)
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    alone = Partner((0, 1))
    ids = tokenize(pipeline, class_prompts(classes.head(1), strategy))

    def learn(size: int) -> None:
        latents = noise(pipeline, size, options.resolution).float().cpu()
        times = torch.zeros(size, dtype=torch.long)
        batch = Batch(latents, torch.randn_like(latents), times, ids.expand(size, -1, -1))
        parts = batch_parts(size, alone)
        learner.step((diffusion_loss(pipeline, scheduler, batch, part) for part in parts), alone)

    return {"finetune_step": time_batch("finetune.batch: step", options.batch, learn)}


def time_classifier(tree: Tree, counts: Counts, table: Table) -> dict[str, Any]:
    """A step of a classifier's training, and the loading that goes on meanwhile."""
    options = Train.model_validate(tree["train"] | {"pretrained": False})
    arm = RealArm(mix="none", mix_probability=0.0, reweight="none")
    classes = len(counts.images.per_class)
    state = new_state(RealParams(seed=0, train=options, arm=arm), classes, 0)

    def learn(size: int) -> None:
        images = torch.zeros(size, 3, options.resolution, options.resolution)
        labels = torch.ones(size, classes, device=runtime.device())
        train_step(state, images.to(runtime.device()), [labels], None, 0.0)

    return {
        "training_step": time_batch("train.batch: step", options.batch, learn, LEAST_TRAINED),
        "loading": time_loading(table, options, counts.rows),
        "network_bytes": sum(tensor.nbytes for tensor in weights(state["network"]).values()),
    }

"""Calls of the project's code, in the way its stages make them.

What the cases know of the stages' functions stands here and in models.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from benchmarks.gpu import models
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.sizes import GUIDANCE, Recipe
from stages.finetune import (
    Examples,
    Learner,
    batch_parts,
    descend,
    diffusion_loss,
    draw_batch,
    encode_images,
)
from stages.shared.classifier.data import Data, Pictures, Pool
from stages.shared.classifier.labels import hard_labels
from stages.shared.classifier.training import new_state, open_course, train_epoch
from stages.shared.diffusion.base_model import Pipeline, load_base, load_finetuned
from stages.shared.diffusion.sampling import LcmLora
from stages.shared.diffusion.text import Text, encode_prompts
from stages.shared.diffusion.translation import References
from stages.shared.prompts import class_prompts
from stages.shared.running.forks import Partner
from stages.shared.running.runtime import seed_everything, training_precision
from stages.shared.schemas.synthesize import Synth
from stages.shared.schemas.train import RealArm, RealParams, Train
from stages.shared.tables import Table, write_shard
from stages.synthesize import synthesize

ALONE = Partner((0, 1))  # this process computes all of a batch
EPOCHS = 1000  # of a training that is never finished


def load_translator(bench: Bench) -> tuple[Pipeline, Text]:
    """The fine-tuned model and its classes' prompts, as the stage `synthesize` has them."""
    pipeline = load_base(models.base(bench))
    load_finetuned(pipeline, models.finetuned(bench))
    return pipeline, encode_prompts(pipeline, class_prompts(bench.classes(), "ti+db"))


def sampling(bench: Bench, batch: int) -> Synth:
    return Synth(
        sampler="dpm-solver++",
        lcm_lora=LcmLora(id=None, revision=None),
        steps=bench.sizes.steps,
        guidance_scale=GUIDANCE,
        guidance_stop=1.0,
        cache_interval=None,
        resolution=bench.sizes.resolution,
        batch=batch,
        keep_background=False,
    )


def translate(
    pipeline: Pipeline, text: Text, table: Table, synth: Synth, batches: Sequence[pd.DataFrame]
) -> dict[str, bytes]:
    """The encoded images of a plan's batches, by key; references are encoded anew."""
    references = References(pipeline, table, synth)

    images: dict[str, bytes] = {}
    for made in synthesize(pipeline, references, text, None, synth, batches):
        images |= made

    return images


def write_images(images: dict[str, bytes], path: Path) -> None:
    """Write a shard, as the stage does."""
    named = ((f"{key}.png", images[key]) for key in sorted(images))
    write_shard(path, named, [0] * len(images))


class Course(NamedTuple):
    """A fine-tuning: the model that learns, and what it learns from."""

    learner: Learner
    examples: Examples


def open_finetuning(bench: Bench, table: Table) -> Course:
    """A fine-tuning at its beginning, its images encoded."""
    seed_everything(0)
    pipeline = load_base(models.base(bench), training_precision())
    classes = bench.classes()
    learner = Learner(pipeline, classes, "ti+db", models.finetune_params(bench.sizes))
    return Course(learner, encode_images(learner, table, classes))


def finetune(course: Course, checkpoint: Path) -> list[float]:
    """A round of steps from the cached latents' distributions; their losses."""
    return descend(course.learner, course.examples, lambda losses: None, [], 0, checkpoint, ALONE)


def finetune_online(course: Course, pixels: Tensor) -> None:
    """The same steps, but each encodes its images: pixels (n, 3, h, w) on the CPU."""
    learner, examples = course
    pipeline = learner.pipeline
    params = learner.params
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    scaling = pipeline.vae.config.scaling_factor
    times = scheduler.config.num_train_timesteps
    equal = torch.ones(params.batch, dtype=torch.float64)

    for step in range(params.steps):
        generator = torch.Generator().manual_seed(step)
        rows = torch.randint(len(pixels), (params.batch,), generator=generator)
        with torch.inference_mode():
            images = pixels[rows].to(pipeline.device, pipeline.vae.dtype)
            latents = pipeline.vae.encode(images).latent_dist
            means = latents.mean.cpu()
            deviations = latents.std.cpu()

        drawn = Examples(means, deviations, examples.ids[rows], equal)
        batch = draw_batch(drawn, params.batch, scaling, times, generator)
        parts = batch_parts(params.batch, ALONE)
        losses = (diffusion_loss(pipeline, scheduler, batch, mine) for mine in parts)
        learner.step(losses, ALONE)


class Classifier:
    """A classifier in training: each call of `train` is an epoch."""

    def __init__(self, recipe: Recipe, table: Table, classes: int, keep: bool):
        """keep: whether decoded pictures stay in memory."""
        self.params = classifier_params(recipe)
        labels = hard_labels(table.rows["label"], classes).smoothed(0.1)
        data = Data(Pool(Pictures(table, recipe.resize, keep), labels))

        self.state = new_state(self.params, classes, 0)
        self.course = open_course(self.params, data, 0, range(EPOCHS))

    def train(self) -> None:
        train_epoch(self.state, self.course, len(self.state["history"]), self.params)


def classifier_params(recipe: Recipe) -> RealParams:
    """The paper's recipe for ResNet50 at 448 pixels (Sec. 4.2), for either network."""
    train = Train(
        architecture=recipe.architecture,
        pretrained=False,
        resize=recipe.resize,
        resolution=recipe.resolution,
        padding=8,
        epochs=EPOCHS,
        batch=recipe.batch,
        learning_rate=0.02,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="cosine",
        augmentation="crop",
        warmup=0.1,
        label_smoothing=0.1,
        trials=1,
    )
    arm = RealArm(mix="none", mix_probability=0.0, reweight="none")
    return RealParams(seed=0, train=train, arm=arm)

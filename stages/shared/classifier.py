"""One classifier, from its first epoch to its last: its recipe, its training, its answers (Sec. 4)."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from stages.shared.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.mixing import CMO_REST, Mix, mix_batch, mix_probability
from stages.shared.networks import VIT_PATCH, VIT_PRETRAINED_RESOLUTION, Architecture, build_network
from stages.shared.params import Section
from stages.shared.runtime import checkpoint_seconds, device, seed_everything, training_precision, workers
from stages.shared.schedules import Schedule, class_weights, cross_entropy, rate_factor
from stages.shared.training_data import (
    Augmentation,
    Centred,
    Data,
    Epoch,
    Pictures,
    add_patches,
    augmenter,
    draw_epoch,
    even_batches,
)

LEAST_DRW_EPOCHS = 5  # in fewer, no epoch lies behind the first milestone
LEAST_CMO_EPOCHS = 2 * CMO_REST + 2  # fewer would never be mixed
State = dict[str, Any]


class Train(Section):
    architecture: Architecture
    pretrained: bool
    resize: int = Field(ge=8)
    resolution: int = Field(ge=8)
    padding: int = Field(ge=0)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=3)  # equal parts of at least two: what batch normalisation needs
    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    schedule: Schedule
    augmentation: Augmentation
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    trials: int = Field(ge=1)

    @model_validator(mode="after")
    def check_resolution(self) -> "Train":
        """A crop lies inside the padded image, and a ViT's patches fill it."""
        if self.augmentation == "crop" and self.resolution > self.resize + 2 * self.padding:
            raise ValueError("resolution must be at most resize + 2 * padding; enlarge train.resize or train.padding")
        if self.augmentation == "resized-crop" and self.resolution > self.resize:
            raise ValueError("resolution must be at most resize; enlarge train.resize")
        if self.architecture == "vit_b_16" and self.resolution % VIT_PATCH:
            raise ValueError(f"vit_b_16 needs a resolution that is a multiple of {VIT_PATCH}")
        if self.architecture == "vit_b_16" and self.pretrained and self.resolution != VIT_PRETRAINED_RESOLUTION:
            raise ValueError(f"pretrained vit_b_16 needs a resolution of {VIT_PRETRAINED_RESOLUTION}")
        if self.architecture == "small_resnet" and self.pretrained:
            raise ValueError("small_resnet has no pretrained weights; set train.pretrained to false")
        return self


class RealArm(Section):
    mix: Mix
    mix_probability: float = Field(ge=0, le=1)
    reweight: Literal["none", "drw"]


class RealParams(Section):
    seed: int = Field(ge=0)
    train: Train
    arm: RealArm

    @field_validator("arm")
    @classmethod
    def check_schedule(cls, arm: RealArm, info: ValidationInfo) -> RealArm:
        """DRW sets in at the step schedule's first milestone; CMO rests in the first epochs and in the last."""
        if "train" not in info.data:
            return arm
        if arm.reweight == "drw" and info.data["train"].schedule != "step":
            raise ValueError("drw needs train.schedule step; set that, or reweight: none")
        if arm.reweight == "drw" and info.data["train"].epochs < LEAST_DRW_EPOCHS:
            raise ValueError(f"drw needs at least {LEAST_DRW_EPOCHS} epochs; raise train.epochs, or set reweight: none")
        if arm.mix == "cmo" and info.data["train"].epochs < LEAST_CMO_EPOCHS:
            raise ValueError(f"cmo needs at least {LEAST_CMO_EPOCHS} epochs; raise train.epochs, or set mix: none")
        return arm


def make_loader(dataset: Dataset, batches: list[list[int]], resolution: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers(resolution),
        pin_memory=device().type == "cuda",
        generator=torch.Generator(),  # DataLoader draws a seed it does not need: not from the common generator
    )


def new_state(params: RealParams, classes: int, seed: int) -> State:
    """A fresh network, its optimiser and no history."""
    seed_everything(seed)
    options = params.train
    network = build_network(options.architecture, classes, options.resolution, options.pretrained).to(device())
    optimizer = torch.optim.SGD(
        network.parameters(), options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )
    return {"network": network, "optimizer": optimizer, "history": []}


def save_state(state: State, path: Path) -> None:
    parts = {"network": state["network"].state_dict(), "optimizer": state["optimizer"].state_dict()}
    save_checkpoint(parts | {"history": state["history"]}, path)


def restore_state(state: State, path: Path) -> None:
    saved = load_checkpoint(path)
    state["network"].load_state_dict(saved["network"])
    state["optimizer"].load_state_dict(saved["optimizer"])
    state["history"] = saved["history"]


def mixed_precision() -> torch.autocast:
    """bf16 on a GPU that has it, as the official code mixes in fp16: half the memory; nothing elsewhere."""
    return torch.autocast(device().type, torch.bfloat16, enabled=training_precision() == torch.bfloat16)


def train_step(state: State, images: Tensor, labels: Tensor, weights: Tensor | None, rate: float) -> Tensor:
    """One step down the gradient; the batch's sums of loss and of right answers, (2,)."""
    for group in state["optimizer"].param_groups:
        group["lr"] = rate
    with mixed_precision():
        outputs = state["network"](images).float()
    loss = cross_entropy(outputs, labels, weights)
    state["optimizer"].zero_grad()
    loss.backward()
    state["optimizer"].step()
    return torch.stack([loss.detach() * len(images), (outputs.argmax(1) == labels.argmax(1)).sum()])


def train_epoch(state: State, data: Data, epoch: int, params: RealParams, seed: int) -> None:
    """One pass over as many images as there are real ones; appends epoch, loss, accuracy and rate to the history."""
    options, arm, rows = params.train, params.arm, len(data.real.labels)
    batches = even_batches(rows, options.batch)
    probability = mix_probability(arm.mix, arm.mix_probability, epoch, options.epochs)
    draws = draw_epoch(seed, epoch, data, len(batches), probability)
    dataset = Epoch(data, draws, augmenter(options.augmentation, options.resolution, options.padding))
    weights = class_weights(data.class_sizes(), epoch, options.epochs) if arm.reweight == "drw" else None
    weights = None if weights is None else weights.to(device())
    read = add_patches(batches, draws) if arm.mix == "cmo" else batches
    state["network"].train()
    sums, rate = torch.zeros(2, device=device()), 0.0
    for number, (images, labels) in enumerate(make_loader(dataset, read, options.resolution)):
        images, labels = images.to(device(), non_blocking=True).float(), labels.to(device(), non_blocking=True)
        if draws.mix_seed[number] >= 0:
            images, labels = mix_batch(images, labels, arm.mix, int(draws.mix_seed[number]))
        step = epoch * len(batches) + number
        factor = rate_factor(options.schedule, options.warmup, step, len(batches), options.epochs)
        rate = options.learning_rate * factor
        sums += train_step(state, images, labels, weights, rate)
    loss, correct = sums.tolist()
    state["history"].append([epoch, loss / rows, 100 * correct / rows, rate])


def train_trial(
    params: RealParams, data: Data, seed: int, checkpoint: Path, advance: Callable[[int], object] = lambda epochs: None
) -> State:
    """Train one classifier to its last epoch, going on from `checkpoint` where there is one."""
    state = new_state(params, data.real.labels.shape[1], seed)
    if checkpoint.exists():
        restore_state(state, checkpoint)
    advance(len(state["history"]))
    saved = time.monotonic()
    for epoch in range(len(state["history"]), params.train.epochs):
        train_epoch(state, data, epoch, params, seed)
        if time.monotonic() - saved >= checkpoint_seconds() or epoch + 1 == params.train.epochs:
            save_state(state, checkpoint)
            saved = time.monotonic()
        advance(1)
    return state


def load_trial(params: RealParams, classes: int, checkpoint: Path) -> State:
    """What `train_trial` has left."""
    state = new_state(params, classes, params.seed)
    restore_state(state, checkpoint)
    return state


@torch.inference_mode()
def answer(network: nn.Module, pictures: Pictures, params: Train) -> Tensor:
    """The network's outputs for the middle of each image, on the CPU, (images, classes)."""
    network.eval()
    rows, size = list(range(len(pictures))), 4 * params.batch
    batches = [rows[first : first + size] for first in rows[::size]]
    loader = make_loader(Centred(pictures, params.resolution), batches, params.resolution)
    bar = tqdm(loader, desc="predict", unit="batch", leave=False, disable=len(pictures) <= 1000)
    with mixed_precision():
        return torch.cat([network(images.to(device())).float().cpu() for images in bar])

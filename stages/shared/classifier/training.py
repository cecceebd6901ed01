"""One classifier from first epoch to last: its recipe, its training, its answers (Sec. 4)."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from stages.shared.classifier.data import (
    Centred,
    Data,
    Epoch,
    Pictures,
    add_patches,
    augmenter,
    draw_epoch,
    even_batches,
)
from stages.shared.classifier.mixing import mix_batch, mix_probability
from stages.shared.classifier.networks import build_network
from stages.shared.classifier.schedules import cross_entropy, drw_weights, rate_factor
from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.running.runtime import (
    checkpoint_seconds,
    device,
    seed_everything,
    training_precision,
    workers,
)
from stages.shared.schemas.train import RealParams, Train

State = dict[str, Any]  # network, optimizer and history


def open_trial(params: RealParams, classes: int, seed: int, checkpoint: Path) -> State:
    """A fresh network, optimiser and history, or those that `checkpoint` holds where it exists."""
    state = new_state(params, classes, seed)
    if checkpoint.exists():
        restore_state(state, checkpoint)

    return state


def load_trial(params: RealParams, classes: int, checkpoint: Path) -> State:
    """The state that a finished `train_trial` has left in `checkpoint`."""
    state = new_state(params, classes, params.seed)
    restore_state(state, checkpoint)
    return state


def new_state(params: RealParams, classes: int, seed: int) -> State:
    """A fresh network, its optimiser and no history."""
    seed_everything(seed)

    options = params.train
    network = build_network(
        options.architecture, classes, options.resolution, options.pretrained
    ).to(device())
    optimizer = torch.optim.SGD(
        network.parameters(),
        options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )

    return {"network": network, "optimizer": optimizer, "history": []}


def save_state(state: State, path: Path) -> None:
    parts = {
        "network": state["network"].state_dict(),
        "optimizer": state["optimizer"].state_dict(),
        "history": state["history"],
    }
    save_checkpoint(parts, path)


def restore_state(state: State, path: Path) -> None:
    saved = load_checkpoint(path)
    state["network"].load_state_dict(saved["network"])
    state["optimizer"].load_state_dict(saved["optimizer"])
    state["history"] = saved["history"]


def train_trial(
    state: State, params: RealParams, data: Data, seed: int, checkpoint: Path
) -> Iterator[int]:
    """Train the epochs that `state` lacks; yields each epoch's number (from 0) when it is done.

    When the iterator is exhausted, the last epoch is trained and its state is in `checkpoint`.
    """
    saved = time.monotonic()

    for epoch in range(len(state["history"]), params.train.epochs):
        train_epoch(state, data, epoch, params, seed)

        if time.monotonic() - saved >= checkpoint_seconds() or epoch + 1 == params.train.epochs:
            save_state(state, checkpoint)
            saved = time.monotonic()

        yield epoch


def train_epoch(state: State, data: Data, epoch: int, params: RealParams, seed: int) -> None:
    """One pass over as many images as there are real ones.

    Appends epoch, mean loss, accuracy in percent and the last rate to the history.
    """
    options = params.train
    arm = params.arm
    rows = len(data.real.labels)

    batches = even_batches(rows, options.batch)
    probability = mix_probability(arm.mix, arm.mix_probability, epoch, options.epochs)
    draws = draw_epoch(seed, epoch, data, len(batches), probability)

    read = add_patches(batches, draws) if arm.mix == "cmo" else batches
    augment = augmenter(options.augmentation, options.resolution, options.padding)
    loader = make_loader(Epoch(data, draws, augment), read, options.resolution)

    weights = None
    if arm.reweight == "drw":
        weights = drw_weights(data.class_sizes(), epoch, options.epochs)
    if weights is not None:
        weights = weights.to(device())

    state["network"].train()
    sums = torch.zeros(2, device=device())
    rate = 0.0

    for number, (images, labels) in enumerate(loader):
        images = images.to(device(), non_blocking=True).float()
        labels = labels.to(device(), non_blocking=True)
        if draws.mix_seed[number] >= 0:
            images, labels = mix_batch(images, labels, arm.mix, int(draws.mix_seed[number]))

        step = epoch * len(batches) + number
        factor = rate_factor(options.schedule, options.warmup, step, len(batches), options.epochs)
        rate = options.learning_rate * factor
        sums += train_step(state, images, labels, weights, rate)

    loss, correct = sums.tolist()
    state["history"].append([epoch, loss / rows, 100 * correct / rows, rate])


def make_loader(dataset: Dataset, batches: list[list[int]], resolution: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers(resolution),
        pin_memory=device().type == "cuda",
        # DataLoader draws a seed that is not used here; a generator of its own
        # keeps that draw from moving the common one.
        generator=torch.Generator(),
    )


def train_step(
    state: State, images: Tensor, labels: Tensor, weights: Tensor | None, rate: float
) -> Tensor:
    """One step down the gradient; the batch's sums of loss and of right answers, (2,)."""
    for group in state["optimizer"].param_groups:
        group["lr"] = rate

    with mixed_precision():
        outputs = state["network"](images).float()

    loss = cross_entropy(outputs, labels, weights)
    state["optimizer"].zero_grad()
    loss.backward()
    state["optimizer"].step()

    right = (outputs.argmax(1) == labels.argmax(1)).sum()
    return torch.stack([loss.detach() * len(images), right])


def mixed_precision() -> torch.autocast:
    """Autocast to bf16 on a GPU that has it, which halves the memory; nothing elsewhere.

    The official code mixes in fp16.
    """
    return torch.autocast(
        device().type, torch.bfloat16, enabled=training_precision() == torch.bfloat16
    )


@torch.inference_mode()
def answer(network: nn.Module, pictures: Pictures, params: Train) -> Tensor:
    """The network's outputs for the middle of each image, on the CPU, (images, classes)."""
    network.eval()
    rows = list(range(len(pictures)))
    size = 4 * params.batch
    batches = [rows[first : first + size] for first in rows[::size]]
    loader = make_loader(Centred(pictures, params.resolution), batches, params.resolution)
    bar = tqdm(loader, desc="predict", unit="batch", leave=False, disable=len(pictures) <= 1000)

    with mixed_precision():
        return torch.cat([network(images.to(device())).float().cpu() for images in bar])

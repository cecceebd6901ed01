"""One classifier, from its first epoch to its last: its recipe, its training, its answers (Sec. 4)."""

import time
from collections.abc import Callable
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

State = dict[str, Any]


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
    parts = {"network": state["network"].state_dict(), "optimizer": state["optimizer"].state_dict()}
    save_checkpoint(parts | {"history": state["history"]}, path)


def restore_state(state: State, path: Path) -> None:
    saved = load_checkpoint(path)
    state["network"].load_state_dict(saved["network"])
    state["optimizer"].load_state_dict(saved["optimizer"])
    state["history"] = saved["history"]


def mixed_precision() -> torch.autocast:
    """bf16 on a GPU that has it, as the official code mixes in fp16: half the memory; nothing elsewhere."""
    return torch.autocast(
        device().type, torch.bfloat16, enabled=training_precision() == torch.bfloat16
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
    return torch.stack([loss.detach() * len(images), (outputs.argmax(1) == labels.argmax(1)).sum()])


def train_epoch(state: State, data: Data, epoch: int, params: RealParams, seed: int) -> None:
    """One pass over as many images as there are real ones; appends epoch, loss, accuracy and rate to the history."""
    options, arm, rows = params.train, params.arm, len(data.real.labels)
    batches = even_batches(rows, options.batch)
    probability = mix_probability(arm.mix, arm.mix_probability, epoch, options.epochs)
    draws = draw_epoch(seed, epoch, data, len(batches), probability)
    dataset = Epoch(
        data, draws, augmenter(options.augmentation, options.resolution, options.padding)
    )
    weights = (
        drw_weights(data.class_sizes(), epoch, options.epochs) if arm.reweight == "drw" else None
    )
    weights = None if weights is None else weights.to(device())
    read = add_patches(batches, draws) if arm.mix == "cmo" else batches
    state["network"].train()
    sums, rate = torch.zeros(2, device=device()), 0.0
    for number, (images, labels) in enumerate(make_loader(dataset, read, options.resolution)):
        images, labels = (
            images.to(device(), non_blocking=True).float(),
            labels.to(device(), non_blocking=True),
        )
        if draws.mix_seed[number] >= 0:
            images, labels = mix_batch(images, labels, arm.mix, int(draws.mix_seed[number]))
        step = epoch * len(batches) + number
        factor = rate_factor(options.schedule, options.warmup, step, len(batches), options.epochs)
        rate = options.learning_rate * factor
        sums += train_step(state, images, labels, weights, rate)
    loss, correct = sums.tolist()
    state["history"].append([epoch, loss / rows, 100 * correct / rows, rate])


def train_trial(
    params: RealParams,
    data: Data,
    seed: int,
    checkpoint: Path,
    advance: Callable[[int], object] = lambda epochs: None,
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

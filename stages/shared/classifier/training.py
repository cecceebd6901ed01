"""One classifier from first epoch to last: its recipe, its training, its answers (Sec. 4)."""

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from stages.shared.classifier.choices import Mix
from stages.shared.classifier.data import (
    Augment,
    Batches,
    Centred,
    Data,
    Draws,
    Epochs,
    Pictures,
    draw_epoch,
    even_batches,
)
from stages.shared.classifier.mixing import mix_batch, mix_probability
from stages.shared.classifier.networks import build_network
from stages.shared.classifier.portions import WHOLE, Portion, join_rows
from stages.shared.classifier.schedules import cross_entropy, drw_weights, join, rate_factor
from stages.shared.classifier.together import GradientSums, join_norms
from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.running.processes import check_agreement, gather
from stages.shared.running.runtime import (
    checkpoint_seconds,
    device,
    seed_everything,
    training_precision,
    workers,
)
from stages.shared.schemas.train import RealParams, Train
from stages.shared.watching.progress import Progress

State = dict[str, Any]  # network, optimizer and history; portion, and sums of gradients or None
Batch = TypeVar("Batch")


def open_trial(
    params: RealParams, classes: int, seed: int, checkpoint: Path, portion: Portion = WHOLE
) -> State:
    """A fresh network, optimiser and history, or those that `checkpoint` holds where it exists."""
    state = new_state(params, classes, seed, portion)
    if checkpoint.exists():
        restore_state(state, checkpoint)

    if portion.total > 1:
        check_agreement(len(state["history"]), checkpoint)
    return state


def load_trial(params: RealParams, classes: int, checkpoint: Path) -> State:
    """The state that a finished `train_trial` has left in `checkpoint`."""
    state = new_state(params, classes, params.seed)
    restore_state(state, checkpoint)
    return state


def new_state(params: RealParams, classes: int, seed: int, portion: Portion = WHOLE) -> State:
    """A fresh network, its optimiser and no history.

    portion: what this process computes of each batch, of which all processes then share the steps.
    """
    seed_everything(seed)

    options = params.train
    network = build_network(
        options.architecture, classes, options.resolution, options.pretrained
    ).to(device())
    if portion != WHOLE:
        network = join_norms(network)

    optimizer = torch.optim.SGD(
        network.parameters(),
        options.learning_rate,
        momentum=options.momentum,
        weight_decay=options.weight_decay,
    )

    sums = None if portion == WHOLE else GradientSums(list(network.parameters()))
    return {
        "network": network,
        "optimizer": optimizer,
        "history": [],
        "portion": portion,
        "sums": sums,
    }


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
) -> Iterator[list[float]]:
    """Train the epochs that `state` lacks; yields each one's line of the history when it is done.

    When the iterator is exhausted, the last epoch is trained and its state is in `checkpoint`. Of
    processes that share the trial, the first one writes it.
    """
    options = params.train
    span = range(len(state["history"]), options.epochs)
    course = open_course(params, data, seed, span, state["portion"])
    leads = state["portion"].number == 0
    saved = time.monotonic()

    for epoch in span:
        train_epoch(state, course, epoch, params)

        due = time.monotonic() - saved >= checkpoint_seconds() or epoch + 1 == options.epochs
        if leads and due:
            save_state(state, checkpoint)
            saved = time.monotonic()

        yield state["history"][-1]


class Course(NamedTuple):
    """What a trial goes through: its epochs, and their batches in order, loaded ahead.

    Of each batch a process loads its portion.
    """

    epochs: Epochs
    batches: Iterator[tuple[Tensor, Tensor]]
    portion: Portion


def open_course(
    params: RealParams, data: Data, seed: int, span: range, portion: Portion = WHOLE
) -> Course:
    """The epochs of `span`; one loader serves all of them."""
    options = params.train
    augment = Augment(options.augmentation, options.resolution, options.padding)
    epochs = Epochs(data, partial(draw, params, data, seed), augment)
    batches = Batches(epochs, span, options.batch, params.arm.mix == "cmo", portion)

    processes = 0 if augment.name == "crop" and data.move() else workers(options.resolution)
    return Course(epochs, iter(make_loader(epochs, batches, processes)), portion)


def draw(params: RealParams, data: Data, seed: int, epoch: int) -> Draws:
    """All random draws of one epoch of an arm."""
    arm = params.arm
    probability = mix_probability(arm.mix, arm.mix_probability, epoch, params.train.epochs)
    batches = len(even_batches(len(data.real.labels), params.train.batch))
    return draw_epoch(seed, epoch, data, batches, probability)


def train_epoch(state: State, course: Course, epoch: int, params: RealParams) -> None:
    """One pass over as many images as there are real ones: the course's next epoch.

    Appends epoch, mean loss, accuracy in percent and the last rate to the history.
    """
    options = params.train
    data = course.epochs.data
    draws = course.epochs.draws(epoch)
    sizes = [len(batch) for batch in even_batches(len(data.real.labels), options.batch)]
    steps = len(sizes)

    weights = None
    if params.arm.reweight == "drw":
        weights = drw_weights(data.class_sizes(), epoch, options.epochs)
    if weights is not None:
        weights = weights.to(device())

    state["network"].train()
    sums = torch.zeros(2, device=device())
    rate = 0.0

    for number, (mix_seed, size) in enumerate(zip(draws.mix_seed, sizes, strict=True)):
        images, parts = take_batch(course, params.arm.mix, int(mix_seed), size)

        step = epoch * steps + number
        factor = rate_factor(options.schedule, options.warmup, step, steps, options.epochs)
        rate = options.learning_rate * factor
        sums += train_step(state, images, parts, weights, rate)

    rows = len(data.real.labels)
    loss, correct = sums.tolist()
    state["history"].append([epoch, loss / rows, 100 * correct / rows, rate])


def take_batch(course: Course, mix: Mix, seed: int, size: int) -> tuple[Tensor, list[Tensor]]:
    """The course's next batch, of `size` rows, on the device; mixed unless `seed` is -1.

    The images are those of this process's portion; the labels, parts as of `mix_batch`, are those
    of the whole batch.
    """
    images, labels = next(course.batches)
    images = images.to(device(), non_blocking=True).float()
    labels = labels.to(device(), non_blocking=True)
    parts = [labels]

    if seed >= 0:
        images, parts = mix_batch(images, labels, mix, seed)
        if course.portion != WHOLE and mix != "cmo":
            # the first one was only there for the second to be mixed with
            images = images[1:]
            parts = [part[1:] for part in parts]

    return images, [join_rows(part, course.portion, size) for part in parts]


def whole_batch(batch: Batch) -> Batch:
    """The datasets give batches, not images: there is nothing to put together."""
    return batch


def make_loader(dataset: Dataset, batches: Iterable[list[Any]], processes: int) -> DataLoader:
    """Loads batches of the dataset ahead, in so many processes; in this one, if these are none."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=whole_batch,
        num_workers=processes,
        pin_memory=device().type == "cuda" and processes > 0,
        # DataLoader draws a seed that is not used here; a generator of its own
        # keeps that draw from moving the common one.
        generator=torch.Generator(),
    )


def train_step(
    state: State, images: Tensor, labels: Sequence[Tensor], weights: Tensor | None, rate: float
) -> Tensor:
    """One step down the gradient; the batch's sums of loss and of right answers, (2,).

    images: this process's portion of the batch. labels: those of the whole batch, parts as of
    `mix_batch`.
    """
    for group in state["optimizer"].param_groups:
        group["lr"] = rate

    with mixed_precision():
        outputs = state["network"](images).float()
    outputs = join_rows(outputs, state["portion"], len(labels[0]))

    loss = cross_entropy(outputs, labels, weights)
    state["optimizer"].zero_grad()
    loss.backward()
    if state["sums"] is not None:
        state["sums"].finish()
    state["optimizer"].step()

    right = (outputs.argmax(1) == join(labels).argmax(1)).sum()
    return torch.stack([loss.detach() * len(outputs), right])


def mixed_precision() -> torch.autocast:
    """Autocast to bf16 on a GPU that has it, which halves the memory; nothing elsewhere.

    The official code mixes in fp16.
    """
    return torch.autocast(
        device().type, torch.bfloat16, enabled=training_precision() == torch.bfloat16
    )


@torch.inference_mode()
def answer(
    network: nn.Module, pictures: Pictures, params: Train, portion: Portion = WHOLE
) -> Tensor:
    """The network's outputs for the middle of each image, on the CPU, (images, classes).

    Processes that share a trial share these batches, too; each gets all outputs.
    """
    network.eval()
    rows = list(range(len(pictures)))
    size = 4 * params.batch
    batches = [rows[first : first + size] for first in rows[::size]]
    numbers = range(len(batches))[portion.number :: portion.total]

    own = [batches[number] for number in numbers]
    centred = Centred(pictures, params.resolution)
    # a GPU's memory cannot be read by processes that were forked
    count = 0 if pictures.is_moved() else workers(params.resolution)
    loader = make_loader(centred, own, count)
    silent = len(pictures) <= 1000 or portion.number > 0
    bar = Progress(loader, desc="predict", unit="batch", leave=False, disable=silent)

    with mixed_precision():
        outputs = [network(images.to(device())).float().cpu() for images in bar]

    if portion != WHOLE:
        outputs = list(gather(dict(zip(numbers, outputs, strict=True))).values())
    return torch.cat(outputs)

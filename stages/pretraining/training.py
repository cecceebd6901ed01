"""One training loop for all networks of the embedded base: it resumes, and averages the weights."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.running.processes import processes, sum_gradients
from stages.shared.running.runtime import device, training_precision
from stages.shared.watching.progress import Progress

CHECKPOINT_SECONDS = 300
AVERAGED = 0.999  # decay of the moving average of the weights, which warms up
Parts = dict[str, Any]  # the objects with a state_dict, by their names in the checkpoint
Loss = Callable[[torch.Generator], Tensor]  # of a batch that is drawn from the generator


def train(
    path: Path, model: nn.Module, loss: Loss, steps: int, learning_rate: float, seed: int
) -> list[float]:
    """Optimise `loss` over `model`'s parameters; leaves their moving average in `model`.

    Step k of process r draws from generator (seed, k, r), so that a run that resumes from the
    checkpoint at `path` equals an unbroken one. Each process draws a batch of its own; the gradient
    is the mean of theirs. Returns the loss curve, one mean per 100 steps.
    """
    model.to(device())
    parts = make_parts(model, steps, learning_rate)
    average = parts["state"]["average"]
    curve, first = resume(path, parts) if path.exists() else ([], 0)

    losses: list[Tensor] = []
    saved = time.monotonic()
    bar = Progress(
        range(first, steps), initial=first, total=steps, desc=path.stem, mininterval=10,
        disable=not processes().is_main_process,
    )  # fmt: skip

    for step in bar:
        losses.append(descend(model, parts["optimizer"], loss, generator(seed, step)))
        parts["ramp"].step()
        average.update_parameters(model)

        if len(losses) == 100:
            curve.append(round(float(torch.stack(losses).mean()), 5))
            bar.set_postfix(loss=curve[-1])
            losses.clear()

        # between two means alone, since the losses of an unfinished one are not saved
        if step + 1 == steps or (not losses and time.monotonic() - saved > CHECKPOINT_SECONDS):
            saved = time.monotonic()
            if processes().is_main_process:
                save(path, parts, curve, step + 1)

    model.load_state_dict(average.module.state_dict())
    processes().wait_for_everyone()
    return curve


def generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step in this process."""
    stream = seed * 10**6 + step + 10**12 * processes().process_index
    return torch.Generator().manual_seed(stream)


def make_parts(model: nn.Module, steps: int, learning_rate: float) -> Parts:
    """The networks (`model` and its moving average), the optimiser and its rate's schedule.

    AdamW, with 100 warm-up steps and a linear decay over the last third.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.99), fused=True
    )
    average = AveragedModel(model, multi_avg_fn=move_average)
    ramp = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / 100, 3 * (steps - k) / steps)
    )

    networks = nn.ModuleDict({"model": model, "average": average})
    return {"state": networks, "optimizer": optimizer, "ramp": ramp}


def move_average(averages: Any, weights: Any, updates: Tensor | int) -> None:
    """Move the averages towards the weights: by much at first, so that a short sitting counts.

    The decay is that of `diffusers.training_utils.EMAModel`: (1 + n) / (10 + n), up to AVERAGED.
    """
    decay = min(AVERAGED, (1 + int(updates)) / (10 + int(updates)))
    get_ema_multi_avg_fn(decay)(averages, weights, updates)


def save(path: Path, parts: Parts, curve: list[float], step: int) -> None:
    """Write the parts, the loss curve and the next step."""
    states = {name: part.state_dict() for name, part in parts.items()}
    save_checkpoint({**states, "curve": curve, "step": step}, path)


def resume(path: Path, parts: Parts) -> tuple[list[float], int]:
    """Set the parts to what the checkpoint holds; returns its loss curve and the next step."""
    saved = load_checkpoint(path)
    for name, part in parts.items():
        part.load_state_dict(saved[name])

    return saved["curve"], saved["step"]


def descend(
    model: nn.Module, optimizer: torch.optim.Optimizer, loss: Loss, drawn: torch.Generator
) -> Tensor:
    """Take one step down the clipped gradient; returns the loss of all processes' batches."""
    mixed = training_precision() == torch.bfloat16
    with torch.autocast(device().type, torch.bfloat16, enabled=mixed):
        mine = loss(drawn) / processes().num_processes

    optimizer.zero_grad()
    mine.backward()
    total = sum_gradients(list(model.parameters()), mine.detach())
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

    return total

"""One training loop for all networks of the embedded base: it resumes, and averages the weights."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint

CHECKPOINT_SECONDS = 300
Parts = dict[str, Any]  # the objects with a state_dict, by their names in the checkpoint


def train(
    path: Path,
    model: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    steps: int,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Optimise `loss` over `model`'s parameters; leaves their moving average in `model`.

    Step k draws from generator (seed, k), so that a run that resumes from the checkpoint at `path`
    equals an unbroken one. Returns the loss curve, one mean per 100 steps.
    """
    parts = make_parts(model, steps, learning_rate)
    average = parts["state"]["average"]
    curve, first = resume(path, parts) if path.exists() else ([], 0)

    losses: list[Tensor] = []
    saved = time.monotonic()
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=path.stem, mininterval=10)

    for step in bar:
        generator = torch.Generator().manual_seed(seed * 10**6 + step)
        losses.append(descend(model, parts["optimizer"], loss(generator)))
        parts["ramp"].step()
        average.update_parameters(model)

        if len(losses) == 100:
            curve.append(round(float(torch.stack(losses).mean()), 5))
            bar.set_postfix(loss=curve[-1])
            losses.clear()

        # between two means alone, since the losses of an unfinished one are not saved
        if step + 1 == steps or (not losses and time.monotonic() - saved > CHECKPOINT_SECONDS):
            saved = time.monotonic()
            save(path, parts, curve, step + 1)

    model.load_state_dict(average.module.state_dict())
    return curve


def make_parts(model: nn.Module, steps: int, learning_rate: float) -> Parts:
    """The networks (`model` and its moving average), the optimiser and its rate's schedule.

    AdamW, with 100 warm-up steps and a linear decay over the last third.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.99)
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ramp = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / 100, 3 * (steps - k) / steps)
    )

    networks = nn.ModuleDict({"model": model, "average": average})
    return {"state": networks, "optimizer": optimizer, "ramp": ramp}


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


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """Take one step down the clipped gradient; returns the loss."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

    return loss.detach()

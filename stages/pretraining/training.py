"""One training loop for all networks of the embedded base: it resumes, and keeps the moving average."""

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
Parts = dict[str, Any]  # what has a state_dict, by its name in the checkpoint


def train(
    path: Path,
    model: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    steps: int,
    learning_rate: float,
    seed: int,
) -> list[float]:
    """Optimise `loss` over `model`'s parameters, with checkpoints at `path`; leaves the moving average in `model`.

    AdamW, 100 warm-up steps, linear decay over the last third. Step k draws from generator (seed, k), so that a
    resumed run follows the interrupted one. Returns the loss curve, one mean per 100 steps.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.99)
    )
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ramp = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda k: min(1, (k + 1) / 100, 3 * (steps - k) / steps)
    )
    networks = nn.ModuleDict({"model": model, "average": average})
    parts: Parts = {"state": networks, "optimizer": optimizer, "ramp": ramp}
    curve, first = resume(path, parts) if path.exists() else ([], 0)
    losses, last_save = [], time.monotonic()
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=path.stem, mininterval=10)
    for step in bar:
        losses.append(
            descend(model, optimizer, loss(torch.Generator().manual_seed(seed * 10**6 + step)))
        )
        ramp.step()
        average.update_parameters(model)
        if len(losses) == 100:
            curve.append(round(float(torch.stack(losses).mean()), 5))
            bar.set_postfix(loss=curve[-1])
            losses.clear()
        if step + 1 == steps or (not losses and time.monotonic() - last_save > CHECKPOINT_SECONDS):
            last_save = time.monotonic()
            states = {name: part.state_dict() for name, part in parts.items()}
            save_checkpoint({**states, "curve": curve, "step": step + 1}, path)
    model.load_state_dict(average.module.state_dict())
    return curve


def resume(path: Path, parts: Parts) -> tuple[list[float], int]:
    """Put the parts where the checkpoint has them; returns its loss curve and the next step."""
    saved = load_checkpoint(path)
    for name, part in parts.items():
        part.load_state_dict(saved[name])
    return saved["curve"], saved["step"]


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> Tensor:
    """One step down the clipped gradient."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.detach()

"""One training loop for all networks of the embedded base: it resumes, and keeps the moving average."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from stages.shared.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.runtime import device

CHECKPOINT_SECONDS = 300


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
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.99))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ramp = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1, (k + 1) / 100, 3 * (steps - k) / steps))
    state = nn.ModuleDict({"model": model, "average": average})
    curve, first = [], 0
    if path.exists():
        saved = load_checkpoint(path, device())
        state.load_state_dict(saved["state"])
        optimizer.load_state_dict(saved["optimizer"])
        ramp.load_state_dict(saved["ramp"])
        curve, first = saved["curve"], saved["step"]
    losses, last_save = [], time.monotonic()
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=path.stem, mininterval=10)
    for step in bar:
        value = loss(torch.Generator().manual_seed(seed * 10**6 + step))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ramp.step()
        average.update_parameters(model)
        losses.append(value.detach())
        if len(losses) == 100:
            curve.append(round(float(torch.stack(losses).mean()), 5))
            bar.set_postfix(loss=curve[-1])
            losses.clear()
        if step + 1 == steps or (not losses and time.monotonic() - last_save > CHECKPOINT_SECONDS):
            last_save = time.monotonic()
            saved = {"state": state.state_dict(), "optimizer": optimizer.state_dict(), "ramp": ramp.state_dict()}
            save_checkpoint({**saved, "curve": curve, "step": step + 1}, path)
    model.load_state_dict(average.module.state_dict())
    return curve

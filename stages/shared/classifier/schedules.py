"""What changes during a training: the learning rate, and the classes' weights in the loss."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.shared.classifier.choices import Schedule

# (tenths of the epochs, factor): epochs 180 and 160 of 200 in the official code.
MILESTONES = ((9, 1e-4), (8, 1e-2))
BETA = 0.9999  # of the effective number of images (Cui et al., 2019), as naver-ai/cmo has it


def rate_factor(schedule: Schedule, warmup: float, step: int, steps: int, epochs: int) -> float:
    """The share of the full learning rate at `step`, of a training with `steps` steps an epoch.

    A step is a batch. Both schedules rise linearly over `warmup`, a share of the training. The step
    schedule changes between epochs only, the cosine at each step.
    """
    if schedule == "step":
        return step_factor(step // steps, epochs, warmup)

    return cosine_factor(step, epochs * steps, warmup)


def cosine_factor(step: float, steps: int, warmup: float) -> float:
    """Linear warm-up, then half a cosine towards 0."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising

    return (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def step_factor(epoch: int, epochs: int, warmup: float) -> float:
    """Linear warm-up, then 1, then 0.01 from 0.8 of the epochs on and 0.0001 from 0.9 on.

    This is the official code's schedule for a long tail.
    """
    for tenths, factor in MILESTONES:
        if 10 * epoch >= tenths * epochs:
            return factor

    rising = round(warmup * epochs)
    return (epoch + 1) / rising if epoch < rising else 1.0


def drw_weights(sizes: np.ndarray, epoch: int, epochs: int) -> Tensor | None:
    """The classes' weights in deferred re-weighting (Cao et al., 2019), (classes,).

    There are none before the step schedule's first milestone. From then on they are proportional to
    (1 - b) / (1 - b^n) and sum to the number of classes. `sizes` are the classes' n.
    """
    if 10 * epoch < MILESTONES[-1][0] * epochs:
        return None

    weights = (1 - BETA) / (1 - BETA**sizes)
    return torch.tensor(weights / weights.sum() * len(weights)).float()


def join(parts: Sequence[Tensor]) -> Tensor:
    """The labels (n, classes) that the parts add up to."""
    return torch.stack(list(parts)).sum(0)


def cross_entropy(outputs: Tensor, labels: Sequence[Tensor], weights: Tensor | None) -> Tensor:
    """Cross-entropy of soft labels, averaged as torch averages that of hard ones.

    labels: parts (n, classes) whose sum is the label. Each share of a part counts by its class's
    weight, in the sum and in what it is divided by: so a part that mixing has added is averaged by
    its own weights, as in the official code (lambda * CE(a) + (1 - lambda) * CE(b)).
    """
    if weights is None:
        return F.cross_entropy(outputs, join(labels))

    loss = outputs.new_zeros(())
    for part in labels:
        shares = weights * part
        # a box of no pixels leaves a patch's part without a share: it counts nothing, and is no NaN
        total = shares.sum().clamp(min=torch.finfo(shares.dtype).tiny)
        mean = -(shares * outputs.log_softmax(1)).sum() / total
        loss = loss + part.sum() / len(part) * mean

    return loss

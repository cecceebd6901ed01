"""What changes in the course of a training: the learning rate, and the classes' weights in the loss."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.shared.classifier.choices import Schedule

MILESTONES = (
    (9, 1e-4),
    (8, 1e-2),
)  # tenths of the epochs, factor: 180 and 160 of 200 in the official code
BETA = 0.9999  # of the effective number of images (Cui et al., 2019), as naver-ai/cmo has it


def rate_factor(schedule: Schedule, warmup: float, step: int, steps: int, epochs: int) -> float:
    """The share of the full learning rate at a step (batch) of a training with `steps` steps an epoch.

    Both schedules rise in a line over the first share `warmup`; step moves from epoch to epoch.
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
    """Linear warm-up, then 1, 0.01 from 0.8 of the epochs on and 0.0001 from 0.9 on (the official code's long tail)."""
    for tenths, factor in MILESTONES:
        if 10 * epoch >= tenths * epochs:
            return factor
    rising = round(warmup * epochs)
    return (epoch + 1) / rising if epoch < rising else 1.0


def drw_weights(sizes: np.ndarray, epoch: int, epochs: int) -> Tensor | None:
    """Deferred re-weighting (Cao et al., 2019): none before the step schedule's first milestone, then those of
    (1 - b) / (1 - b^n), which sum to the number of classes. `sizes` are the classes' n."""
    if 10 * epoch < MILESTONES[-1][0] * epochs:
        return None
    weights = (1 - BETA) / (1 - BETA**sizes)
    return torch.tensor(weights / weights.sum() * len(weights)).float()


def cross_entropy(outputs: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Cross-entropy of soft labels (n, classes), averaged as torch does for hard ones: every share of a label counts
    by its class's weight, above and below the fraction line."""
    if weights is None:
        return F.cross_entropy(outputs, labels)
    shares = weights * labels
    return -(shares * outputs.log_softmax(1)).sum() / shares.sum()

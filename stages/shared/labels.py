"""Soft labels: how much of each class a training image is (Eq. 3), and label smoothing on top."""

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Class indices (n,) as labels (n, classes)."""
    return F.one_hot(labels, classes).float()


def soft_label(source: Tensor, target: Tensor, strength: Tensor, gamma: float, classes: int) -> Tensor:
    """Eq. 3, (n, classes): (1 - s^gamma) of the source's class and s^gamma of the target's.

    s^gamma goes to the target, as in Table 6's caption and the official code; the text below Eq. 3 has it reversed.
    An image without a reference has source -1, and is all target.
    """
    weight = strength.float().pow(gamma)[:, None]
    source = torch.where(source < 0, target, source)
    return (1 - weight) * one_hot(source, classes) + weight * one_hot(target, classes)


def smooth(labels: Tensor, smoothing: float) -> Tensor:
    """Label smoothing (Szegedy et al., 2016) of labels that sum to 1; so does the result."""
    return (1 - smoothing) * labels + smoothing / labels.shape[1]

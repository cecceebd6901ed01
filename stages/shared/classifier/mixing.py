"""Mixing the images of a batch, and their labels: CutMix, Mixup and, for a long tail, CMO."""

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp

from stages.shared.classifier.choices import CMO_REST, Mix

MIXERS = {"cutmix": CutMix, "mixup": MixUp}


def mix_probability(mix: Mix, probability: float, epoch: int, epochs: int) -> float:
    """How likely a batch of this epoch (from 0) is mixed."""
    resting = mix == "cmo" and not CMO_REST < epoch < epochs - CMO_REST
    return 0.0 if mix == "none" or resting else probability


def inverse_shares(labels: np.ndarray) -> np.ndarray:
    """How likely CMO draws each row: each class alike, and in a class each row alike (weights 1 / n_class)."""
    weights = 1 / np.bincount(labels)[labels]
    return weights / weights.sum()


def paste_box(height: int, width: int, kept: float, y: int, x: int) -> tuple[slice, slice]:
    """CutMix's box (Yun et al., 2019): 1 - `kept` of the image around the centre (y, x), less what hangs over."""
    ratio = math.sqrt(1 - kept)
    up, aside = int(height * ratio) // 2, int(width * ratio) // 2
    return slice(max(y - up, 0), min(y + up, height)), slice(
        max(x - aside, 0), min(x + aside, width)
    )


def paste(
    images: Tensor, labels: Tensor, patches: Tensor, patch_labels: Tensor, box: tuple[slice, slice]
) -> tuple[Tensor, Tensor]:
    """The box of each of `patches` on each of `images` (n, 3, height, width); labels by the pasted area, exactly."""
    pasted = images.clone()
    pasted[..., *box] = patches[..., *box]
    area = patches[0, 0, *box].numel() / patches[0, 0].numel()
    return pasted, (1 - area) * labels + area * patch_labels


def mix_batch(images: Tensor, labels: Tensor, mix: Mix, seed: int) -> tuple[Tensor, Tensor]:
    """torchvision's CutMix or MixUp, or CMO (Park et al., 2022), all with Beta(1, 1) and for soft labels.

    For CMO the batch's second half are the patches that its first half, which comes back, takes a piece of.
    """
    if mix != "cmo":
        torch.manual_seed(seed)
        return MIXERS[mix](num_classes=labels.shape[1])(images, labels)
    random, (height, width) = np.random.default_rng(seed), images.shape[-2:]
    box = paste_box(
        height, width, random.beta(1, 1), int(random.integers(height)), int(random.integers(width))
    )
    (images, patches), (labels, patch_labels) = images.chunk(2), labels.chunk(2)
    return paste(images, labels, patches, patch_labels, box)

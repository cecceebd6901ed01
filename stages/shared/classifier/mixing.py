"""Mixing the images of a batch, and their labels: CutMix, Mixup and, for a long tail, CMO."""

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp

from stages.shared.classifier.choices import CMO_REST, Mix

MIXERS = {"cutmix": CutMix, "mixup": MixUp}


def mix_probability(mix: Mix, probability: float, epoch: int, epochs: int) -> float:
    """The probability that a batch of this epoch (from 0) is mixed."""
    resting = mix == "cmo" and not CMO_REST < epoch < epochs - CMO_REST
    return 0.0 if mix == "none" or resting else probability


def inverse_shares(labels: np.ndarray) -> np.ndarray:
    """The probability that CMO draws each row, (rows,).

    It is proportional to 1 / n_class: classes are equally likely, and so are the rows of a class.
    """
    weights = 1 / np.bincount(labels)[labels]
    return weights / weights.sum()


def paste_box(height: int, width: int, kept: float, y: int, x: int) -> tuple[slice, slice]:
    """CutMix's box (Yun et al., 2019), as its rows and its columns.

    It covers 1 - `kept` of the image's area around the centre (y, x), and is cut at the edges.
    """
    ratio = math.sqrt(1 - kept)
    half_height = int(height * ratio) // 2
    half_width = int(width * ratio) // 2

    rows = slice(max(y - half_height, 0), min(y + half_height, height))
    columns = slice(max(x - half_width, 0), min(x + half_width, width))

    return rows, columns


def paste(
    images: Tensor, labels: Tensor, patches: Tensor, patch_labels: Tensor, box: tuple[slice, slice]
) -> tuple[Tensor, list[Tensor]]:
    """Paste the box of each of `patches` on each of `images` (n, 3, height, width).

    Both labels come back, each times its exact share of the area.
    """
    pasted = images.clone()
    pasted[..., *box] = patches[..., *box]
    area = patches[0, 0, *box].numel() / patches[0, 0].numel()
    return pasted, [(1 - area) * labels, area * patch_labels]


def mix_batch(images: Tensor, labels: Tensor, mix: Mix, seed: int) -> tuple[Tensor, list[Tensor]]:
    """torchvision's CutMix or MixUp, or CMO (Park et al., 2022), with Beta(1, 1) and soft labels.

    Returns the images and the parts that their labels are the sum of. CMO's are two, an image's and
    its patch's.

    For CMO the batch's second half are the patches, of which each image of the first half gets a
    piece; only the first half comes back.
    """
    if mix != "cmo":
        torch.manual_seed(seed)
        mixed, mixed_labels = MIXERS[mix](num_classes=labels.shape[1])(images, labels)
        return mixed, [mixed_labels]

    random = np.random.default_rng(seed)
    height, width = images.shape[-2:]
    kept = random.beta(1, 1)
    y = int(random.integers(height))
    x = int(random.integers(width))
    box = paste_box(height, width, kept, y, x)

    images, patches = images.chunk(2)
    labels, patch_labels = labels.chunk(2)

    return paste(images, labels, patches, patch_labels, box)

"""Soft labels: each class's share of an image (Eq. 3, or as CLIP or a teacher sees it).

They are kept small, and made dense for the rows that are asked for: a matrix of images × classes
would outgrow the images. Label smoothing comes on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.shared.classifier.target_weight import target_share
from stages.shared.pretrained.reference import Pretrained
from stages.shared.tables import Table

Rows = int | slice | Sequence[int] | np.ndarray | Tensor


class Labels(Protocol):
    """Labels of images; `labels[rows]` are those of some, float (rows, classes), summing to 1."""

    @property
    def classes(self) -> int: ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Rows) -> Tensor: ...

    def smoothed(self, smoothing: float) -> "Labels":
        """The same labels with another smoothing."""


@dataclass
class Shares:
    """Labels of two classes at most: 20 bytes an image."""

    source: Tensor  # class indices (n,)
    target: Tensor  # (n,)
    share: Tensor  # the target's, float (n,); the rest is the source's
    classes: int
    smoothing: float = 0.0

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: Rows) -> Tensor:
        share = self.share[rows][..., None]
        of_source = one_hot(self.source[rows], self.classes)
        of_target = one_hot(self.target[rows], self.classes)
        return smooth((1 - share) * of_source + share * of_target, self.smoothing)

    def smoothed(self, smoothing: float) -> "Shares":
        return replace(self, smoothing=smoothing)


class Answers:
    """Labels of any shares, as a network gives them: kept in half precision, 2 bytes each."""

    def __init__(self, shares: Tensor, smoothing: float = 0.0):
        self.shares = shares.half()
        self.smoothing = smoothing

    @property
    def classes(self) -> int:
        return self.shares.shape[1]

    def __len__(self) -> int:
        return len(self.shares)

    def __getitem__(self, rows: Rows) -> Tensor:
        shares = self.shares[rows].float()
        return smooth(shares / shares.sum(-1, keepdim=True), self.smoothing)

    def smoothed(self, smoothing: float) -> "Answers":
        return Answers(self.shares, smoothing)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Class indices (n,) as labels (n, classes)."""
    return F.one_hot(labels, classes).float()


def hard_labels(labels: pd.Series, classes: int) -> Shares:
    """Labels of one class each, by index."""
    targets = torch.tensor(labels.to_numpy())
    return Shares(targets, targets, torch.ones(len(targets)), classes)


def soft_labels(
    rows: pd.DataFrame, gamma: float | list[float], strengths: list[float], classes: int
) -> Shares:
    """Eq. 3: (1 - s^gamma) of the source's class and s^gamma of the target's.

    An image without a reference has source -1, and its label is all target. A list of gammas has
    one for each of `strengths`.
    """
    share = torch.tensor(target_share(rows, gamma, strengths)).float()
    source = np.where(rows["source_label"] < 0, rows["target_label"], rows["source_label"])
    target = rows["target_label"].to_numpy()
    return Shares(torch.tensor(source), torch.tensor(target), share, classes)


def clip_labels(images: Table, real: Table, classes: int, clip: Pretrained) -> Answers:
    """The softmax of CLIP's scaled similarity of each image and each prototype.

    A prototype is the direction of the class's real training images.
    """
    # Imported here because no other label needs transformers.
    from stages.shared.pretrained.clip import image_features, load_clip, logits, prototypes

    model, processor = load_clip(clip)
    real_features = image_features(real, model, processor)
    directions = prototypes(real_features, real.rows["label"].tolist(), classes)
    features = image_features(images, model, processor)

    return Answers(logits(features, directions, model).softmax(1))


def smooth(labels: Tensor, smoothing: float) -> Tensor:
    """Label smoothing (Szegedy et al., 2016) of labels that sum to 1; so does the result."""
    return (1 - smoothing) * labels + smoothing / labels.shape[-1]

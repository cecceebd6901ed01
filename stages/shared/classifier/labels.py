"""Soft labels: each class's share of a synthetic image (Eq. 3, or as CLIP sees it).

Label smoothing comes on top.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from stages.shared.classifier.target_weight import target_share
from stages.shared.pretrained.reference import Pretrained
from stages.shared.tables import Table


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Class indices (n,) as labels (n, classes)."""
    return F.one_hot(labels, classes).float()


def target_labels(rows: pd.DataFrame, classes: int) -> Tensor:
    """One-hot labels of the images' target classes, (n, classes)."""
    return one_hot(torch.tensor(rows["target_label"].to_numpy()), classes)


def soft_labels(
    rows: pd.DataFrame, gamma: float | list[float], strengths: list[float], classes: int
) -> Tensor:
    """Eq. 3, (n, classes): (1 - s^gamma) of the source's class and s^gamma of the target's.

    An image without a reference has source -1, and its label is all target. A list of gammas has
    one for each of `strengths`.
    """
    share = torch.tensor(target_share(rows, gamma, strengths)).float()[:, None]
    source = np.where(rows["source_label"] < 0, rows["target_label"], rows["source_label"])
    of_source = one_hot(torch.tensor(source), classes)
    return (1 - share) * of_source + share * target_labels(rows, classes)


def clip_labels(images: Table, real: Table, classes: int, clip: Pretrained) -> Tensor:
    """The softmax of CLIP's scaled similarity of each image and each prototype, (n, classes).

    A prototype is the direction of the class's real training images.
    """
    # Imported here because no other label needs transformers.
    from stages.shared.pretrained.clip import image_features, load_clip, logits, prototypes

    model, processor = load_clip(clip)
    real_features = image_features(real, model, processor)
    directions = prototypes(real_features, real.rows["label"].tolist(), classes)
    features = image_features(images, model, processor)

    return logits(features, directions, model).softmax(1)


def smooth(labels: Tensor, smoothing: float) -> Tensor:
    """Label smoothing (Szegedy et al., 2016) of labels that sum to 1; so does the result."""
    return (1 - smoothing) * labels + smoothing / labels.shape[1]

"""Inception's features, which FID proper compares (Heusel et al., 2017).

The network is torch-fidelity's port of the original.
"""

import numpy as np
import torch
from PIL import Image

from stages.shared.errors import BadInput
from stages.shared.running.runtime import BATCH, device
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress

LAYER = "2048"  # the last pooling
LEAF = "params.yaml: assess.frechet"


def load_inception() -> torch.nn.Module:
    """Inception, in the version that defines FID.

    Raises BadInput where the package or its weights are missing, because another network's distance
    would not be FID.
    """
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import (
            URL_INCEPTION_V3,
            FeatureExtractorInceptionV3,
        )
    except ImportError:
        raise BadInput(
            f"{LEAF}: inception needs torch-fidelity; `pip install torch-fidelity`, or set clip"
        ) from None

    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", [LAYER])
    except Exception as error:
        # An unreachable host, or a file that is not a checkpoint: the latter can raise anything.
        reason = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{LEAF}: inception's weights cannot be fetched ({reason}); "
            f"put {URL_INCEPTION_V3} into {torch.hub.get_dir()}/checkpoints/, or set clip"
        ) from None

    return network.to(device())


@torch.inference_mode()
def inception_features(table: Table, network: torch.nn.Module, size: tuple[int, int]) -> np.ndarray:
    """The table's images, resized to `size` (width, height), as float32 (n, 2048)."""
    parts = [np.empty((0, int(LAYER)), np.float32)]

    for first in Progress(range(0, len(table), BATCH), desc="Inception", disable=len(table) < 100):
        images = [table.image(row) for row in range(first, min(first + BATCH, len(table)))]
        resized = [np.asarray(image.resize(size, Image.Resampling.LANCZOS)) for image in images]
        pixels = torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2)
        features = network(pixels.to(device()))[0]
        parts.append(features.cpu().numpy())

    return np.concatenate(parts)

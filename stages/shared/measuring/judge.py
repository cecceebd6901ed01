"""The judge of Toybirds, a classifier by which images are measured.

It was trained on a thousand birds of each species.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.transforms.v2.functional import resize

from stages.shared.classifier.networks import build_network
from stages.shared.errors import BadInput
from stages.shared.running.runtime import BATCH, device

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


class Judge(NamedTuple):
    """The network and what it needs to be shown."""

    network: nn.Module
    size: int  # pixels a side of the images that it was trained on


def make_judge(classes: int, size: int) -> Judge:
    """The judge before training."""
    network = build_network("small_resnet", classes, size, pretrained=False)
    return Judge(network.to(device()), size)


def save_judge(judge: Judge, classes: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.cpu().contiguous() for name, tensor in judge.network.state_dict().items()}
    save_file(state, folder / WEIGHTS)

    config = {"classes": classes, "size": judge.size}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")


def load_judge(folder: Path) -> Judge:
    """Raises BadInput where there is none."""
    if not (folder / WEIGHTS).is_file():
        raise BadInput(f"{folder}: there is no judge; get it back with `git checkout {folder}`")

    judge = make_judge(**json.loads((folder / CONFIG).read_text()))
    judge.network.load_state_dict(load_file(folder / WEIGHTS))
    judge.network.eval()

    return judge


@torch.inference_mode()
def recognised(judge: Judge, images: np.ndarray) -> np.ndarray:
    """The class that the judge sees in each image, int (n,).

    images: uint8 (n, height, width, 3).
    """
    classes = [torch.empty(0, dtype=torch.long)]

    for batch in torch.from_numpy(images).permute(0, 3, 1, 2).split(BATCH):
        pixels = resize(batch, [judge.size, judge.size], antialias=True)
        classes.append(judge.network(pixels.to(device())).argmax(1).cpu())

    return torch.cat(classes).numpy()

"""A trained classifier as a folder that works by itself.

model.safetensors  the network's tensors, under the architecture's own names; the configuration
                   stands in the file's header, too
config.json        the configuration, for people and other programs
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from stages.shared.classifier.choices import Architecture
from stages.shared.classifier.networks import DEVIATION, MEAN, build_network
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.params import Section
from stages.shared.running.runtime import BATCH, device

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
HEADER = "config"  # the configuration's name in the header of the weights


class Config(Section):
    """What the classifier is, and how an image is prepared for it."""

    architecture: Architecture
    classes: list[str] = Field(min_length=1)  # in the order of the network's outputs
    resize: int = Field(ge=8)  # pixels a side of the square that an image is squeezed into
    resolution: int = Field(ge=8)  # pixels a side of the crop from its middle
    mean: list[float] = Field(default=list(MEAN))  # of each channel, from 0 to 1
    deviation: list[float] = Field(default=list(DEVIATION))
    method: str | None  # of the synthetic images; None without these, or where it is not known
    arm: str
    trial: int
    top1: float  # percent, of the test images, by this very trial
    commit: str  # of the code and the parameters


class Packed(NamedTuple):
    """The network, ready to answer, with its configuration."""

    network: nn.Module
    config: Config


def pack(weights: Path, config: Config, folder: Path) -> None:
    """Write a trial's weights, as stage train leaves them, into a new folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = config.model_dump()
    header = {"format": "pt", HEADER: json.dumps(content, sort_keys=True)}
    save_file(load_file(weights), folder / WEIGHTS, header)
    (folder / WEIGHTS).chmod(0o644)  # safetensors' files are its owner's alone
    write_json(folder / CONFIG, content)


def load_packed(folder: Path) -> Packed:
    """Raises BadInput for a folder without such weights."""
    path = folder / WEIGHTS
    if not path.is_file():
        raise BadInput(
            f"{path}: there is no such file; make it with `python -m stages.pack ARM {folder}`"
        )

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        config = Config.model_validate_json(header.get(HEADER, ""))
    except (OSError, SafetensorError, ValidationError) as error:
        reason = type(error).__name__
        raise BadInput(
            f"{path}: is not what `python -m stages.pack` has written ({reason}); pack it anew"
        ) from None

    network = build_network(config.architecture, len(config.classes), config.resolution, False)
    _normalise, classifier = network.children()
    classifier.load_state_dict(load_file(path))
    return Packed(network.to(device()).eval(), config)


def prepare(image: Image.Image, config: Config) -> Tensor:
    """The image as in the tests of stage train: uint8 (3, resolution, resolution)."""
    squeezed = resize(pil_to_tensor(image), [config.resize, config.resize], antialias=True)
    return center_crop(squeezed, [config.resolution, config.resolution])


def predict(packed: Packed, images: Iterable[Image.Image]) -> Tensor:
    """The probability of each class for RGB images, (images, classes), on the CPU."""
    return answer(packed, [prepare(image, packed.config) for image in images])


@torch.inference_mode()
def answer(packed: Packed, prepared: list[Tensor]) -> Tensor:
    """The same for images that are prepared, so that the large ones need not be kept."""
    parts = []
    for first in range(0, len(prepared), BATCH):
        pixels = torch.stack(prepared[first : first + BATCH]).to(device())
        parts.append(packed.network(pixels).float().softmax(1).cpu())

    return torch.cat(parts) if parts else torch.empty(0, len(packed.config.classes))

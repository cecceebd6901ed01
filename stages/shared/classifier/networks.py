"""The classifiers: a small ResNet for small images, and torchvision's."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import (
    ResNet18_Weights,
    ResNet50_Weights,
    ViT_B_16_Weights,
    WeightsEnum,
    resnet18,
    resnet50,
    vit_b_16,
)
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

from stages.shared.classifier.choices import Architecture
from stages.shared.errors import BadInput

PRETRAINED: dict[Architecture, WeightsEnum] = {
    "resnet18": ResNet18_Weights.IMAGENET1K_V1,
    "resnet50": ResNet50_Weights.IMAGENET1K_V1,
    "vit_b_16": ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1,
}
# ImageNet's, which all of torchvision's weights expect.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def build_network(
    architecture: Architecture, classes: int, resolution: int, pretrained: bool
) -> nn.Module:
    """A classifier of `classes` for square images, in memory format channels last.

    Its head is new even where the rest is pretrained. Pretrained weights are those of the official
    code: IMAGENET1K_V1 of the ResNets, IMAGENET1K_SWAG_E2E_V1 of ViT-B/16.
    """
    builders: dict[Architecture, Callable[[], nn.Module]] = {
        "small_resnet": lambda: small_resnet(classes, resolution),
        "resnet18": lambda: resnet18(),
        "resnet50": lambda: resnet50(),
        "vit_b_16": lambda: vit_b_16(image_size=resolution),
    }
    classifier = builders[architecture]()

    if architecture in PRETRAINED:
        if pretrained:
            classifier.load_state_dict(load_weights(PRETRAINED[architecture]))
        replace_head(classifier, classes)

    network = nn.Sequential(Normalise(), classifier)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class Normalise(nn.Module):
    """Normalises pixels of 0 to 255 by ImageNet's mean and deviation.

    It is a layer of the network, so that bytes and not floats are sent to the device.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self):
        super().__init__()

        mean = 255 * torch.tensor(MEAN).view(1, 3, 1, 1)
        deviation = 255 * torch.tensor(DEVIATION).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        scaled = (pixels.float() - self.mean) / self.deviation
        return scaled.contiguous(memory_format=torch.channels_last)


def small_resnet(classes: int, resolution: int) -> nn.Module:
    """Stages of 16, 32 and 64 channels, of 0.08 M parameters.

    They are at full, half and quarter size below 64 pixels; from there on ResNet's stem first
    makes them four times smaller.
    """
    small = resolution < 64
    shrink: list[nn.Module] = [] if small else [nn.MaxPool2d(3, 2, 1)]

    return nn.Sequential(
        conv3x3(3, 16, 1 if small else 2),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        *shrink,
        _down(16, 32),
        _down(32, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, classes),
    )


def _down(channels: int, wider: int) -> BasicBlock:
    shortcut = nn.Sequential(conv1x1(channels, wider, 2), nn.BatchNorm2d(wider))
    return BasicBlock(channels, wider, 2, shortcut)


def load_weights(weights: WeightsEnum) -> dict[str, Tensor]:
    """torchvision's weights, from its cache or its host.

    The file's hash is checked, and nothing in the file is run. Raises BadInput where it cannot be
    fetched.
    """
    try:
        state = weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise BadInput(
            f"params.yaml: train.pretrained: {weights.url} cannot be fetched ({error}); "
            f"put the file into {torch.hub.get_dir()}/checkpoints, or run again"
        ) from None
    return state  # type: ignore[return-value]


def replace_head(network: nn.Module, classes: int) -> None:
    """Give the network a new last layer, for `classes`."""
    holder, name = (network, "fc") if hasattr(network, "fc") else (network.heads, "head")
    setattr(holder, name, nn.Linear(getattr(holder, name).in_features, classes))

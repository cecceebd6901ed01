"""Every architecture answers with one number a class."""

import pytest
import torch
from torchvision.transforms.v2.functional import normalize

from stages.shared.classifier.networks import DEVIATION, MEAN, Normalise, build_network


@pytest.mark.parametrize(
    ("architecture", "resolution"),
    [("small_resnet", 32), ("small_resnet", 48), ("resnet18", 32), ("vit_b_16", 32)],
)
def test_answers_one_number_a_class(architecture, resolution):
    network = build_network(architecture, 7, resolution, pretrained=False).eval()
    pixels = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8)

    with torch.inference_mode():
        assert network(pixels).shape == (2, 7)


def test_normalises_bytes_as_torchvision_normalises_floats():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    expected = normalize(pixels / 255, list(MEAN), list(DEVIATION))
    torch.testing.assert_close(Normalise()(pixels), expected)

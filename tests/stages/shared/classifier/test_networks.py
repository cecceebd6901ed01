"""Every architecture answers with one number a class."""

from urllib.error import URLError

import pytest
import torch
from torchvision.transforms.v2.functional import normalize

from stages.shared.classifier.networks import DEVIATION, MEAN, Normalise, build_network
from stages.shared.errors import BadInput


@pytest.mark.parametrize(
    ("architecture", "resolution"),
    [("small_resnet", 32), ("small_resnet", 48), ("resnet18", 32), ("vit_b_16", 32)],
)
def test_answers_one_number_a_class(architecture, resolution):
    network = build_network(architecture, 7, resolution, pretrained=False).eval()
    pixels = torch.zeros(2, 3, resolution, resolution, dtype=torch.uint8)

    with torch.inference_mode():
        assert network(pixels).shape == (2, 7)


@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("invalid hash value")])
def test_weights_that_cannot_be_fetched_get_one_line(error, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(BadInput, match=r"train\.pretrained: \S+resnet18\S+ cannot be fetched"):
        build_network("resnet18", 2, 32, pretrained=True)


def test_normalises_bytes_as_torchvision_normalises_floats():
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 3, 4, 4)
    expected = normalize(pixels / 255, list(MEAN), list(DEVIATION))
    torch.testing.assert_close(Normalise()(pixels), expected)

"""The compiled UNet gives what the eager one gives, to rounding, and compiles one shape once."""

import copy

import pytest
import torch

from stages.finetune import add_lora
from stages.shared.diffusion import compiling
from stages.shared.diffusion.base_model import load_base
from stages.shared.diffusion.sampling import Sampling
from stages.shared.diffusion.text import encode_prompts
from stages.shared.diffusion.translation import draw_noise, translate_latents
from stages.shared.pretrained.reference import Pretrained
from tests.support.compilations import count_compilations
from tests.support.sampling import PLAIN
from tests.support.tiny_models import save_tiny

SAMPLING = Sampling(**PLAIN, steps=4, guidance_scale=2.0, resolution=16, batch=2)


@pytest.fixture
def pipeline(tmp_path):
    folder = save_tiny(tmp_path / "base")
    return load_base(Pretrained(id=str(folder), revision=None), torch.float32)


def generate(pipeline) -> torch.Tensor:
    """Two images of noise, int."""
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    noise = draw_noise(pipeline, SAMPLING.resolution, generators, torch.float32)
    text = encode_prompts(pipeline, ["a bird", "a boat"])
    return translate_latents(pipeline, None, noise, text, 1.0, SAMPLING, generators).int()


def test_a_compiled_unet_makes_the_same_images_and_is_compiled_once(pipeline, monkeypatch):
    eager = generate(pipeline)

    counter = count_compilations(monkeypatch)
    compiling.compile_unet(pipeline)
    compiled = generate(pipeline)
    again = generate(pipeline)

    assert (compiled - eager).abs().max() <= 1
    assert torch.equal(compiled, again)
    assert counter.frame_count == 1


@pytest.mark.slow
def test_a_compiled_unet_gives_lora_the_same_gradients(pipeline):
    residues = add_lora(pipeline.unet, 2)
    names = list(pipeline.unet.state_dict())
    given = torch.randn(2, 4, 8, 8), torch.tensor([10, 900]), torch.randn(2, 77, 32)

    def gradients() -> list[torch.Tensor]:
        pipeline.unet.zero_grad()
        pipeline.unet(*given).sample.square().mean().backward()
        return [copy.deepcopy(residue.grad) for residue in residues]

    eager = gradients()
    compiling.compile_unet(pipeline)

    for one, other in zip(eager, gradients(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
    assert list(pipeline.unet.state_dict()) == names

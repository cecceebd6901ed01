"""The UNet's deep features are computed as often as asked for, and otherwise given again."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.shared.diffusion.base_model import load_base
from stages.shared.diffusion.compiling import compile_unet
from stages.shared.diffusion.reuse import advance_features, reuse_features
from stages.shared.diffusion.sampling import Sampling
from stages.shared.diffusion.text import encode_prompts, predict
from stages.shared.diffusion.translation import draw_noise, translate_latents
from stages.shared.pretrained.reference import Pretrained
from tests.conftest import PIPELINE
from tests.support.compilations import count_compilations
from tests.support.sampling import PLAIN
from tests.support.tiny_models import save_tiny

FAMILIES = ("sd", "sdxl", "toybirds")
SAMPLING = Sampling(**PLAIN, steps=6, guidance_scale=3.0, resolution=32, batch=2)
PROMPTS = ["a photo of a bird on water", "a photo of a bird with red crown"]


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> dict[str, Path]:
    tiny = {name: save_tiny(tmp_path_factory.mktemp(name), name) for name in ("sd", "sdxl")}
    return tiny | {"toybirds": Path(PIPELINE)}


@pytest.fixture(params=FAMILIES)
def pipeline(request, homes):
    return load_base(Pretrained(id=str(homes[request.param]), revision=None), torch.float32)


def make(pipeline, sampling: Sampling = SAMPLING, first_seed: int = 0) -> Tensor:
    """Two images from noise, bytes."""
    seeds = range(first_seed, first_seed + 2)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    noise = draw_noise(pipeline, sampling.resolution, generators, torch.float32)
    text = encode_prompts(pipeline, PROMPTS)
    return translate_latents(pipeline, None, noise, text, 1.0, sampling, generators)


def count_calls(block: torch.nn.Module) -> list[int]:
    """A list that grows by one whenever a part of the block is computed."""
    calls: list[int] = []
    block.resnets[0].register_forward_hook(lambda *_: calls.append(1))
    return calls


@pytest.mark.parametrize(("interval", "computed"), [(None, 6), (2, 3), (4, 2), (9, 1)])
def test_of_six_steps_only_every_nth_computes_the_deep_blocks(pipeline, interval, computed):
    """At an interval of 4 the first and the fifth step."""
    unet = pipeline.unet
    deep = [unet.down_blocks[1], unet.mid_block, unet.up_blocks[0]]
    outermost = [unet.down_blocks[0], unet.up_blocks[-1]]
    counts = [count_calls(block) for block in (*deep, *outermost)]

    reuse_features(unet, interval)
    make(pipeline)
    assert list(map(len, counts)) == [computed] * 3 + [6] * 2


def test_where_guidance_stops_the_deep_features_are_computed_anew(pipeline):
    """Of six steps three are guided: at an interval of 2 the first, third, fourth and sixth."""
    calls = count_calls(pipeline.unet.mid_block)
    reuse_features(pipeline.unet, 2)
    make(pipeline, SAMPLING.model_copy(update={"guidance_stop": 0.5}))
    assert len(calls) == 4


def test_off_again_it_changes_no_bit(pipeline):
    before = make(pipeline)
    reuse_features(pipeline.unet, 3)
    reused = make(pipeline)
    reuse_features(pipeline.unet, None)

    assert torch.equal(make(pipeline), before)
    assert not torch.equal(reused, before)


def test_a_batch_gets_nothing_of_the_one_before(pipeline):
    reuse_features(pipeline.unet, 3)
    alone = make(pipeline)
    make(pipeline, first_seed=7)
    assert torch.equal(make(pipeline), alone)


@torch.inference_mode()
def test_a_reused_step_is_the_outermost_blocks_around_the_last_deep_features(homes):
    """Against the UNet of Stable Diffusion taken apart: DeepCache's own way of computing it."""
    pipeline = load_base(Pretrained(id=str(homes["sd"]), revision=None), torch.float32)
    unet = pipeline.unet
    text = encode_prompts(pipeline, PROMPTS).rows(slice(-1))
    latents = torch.randn(2, 2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    times = [torch.tensor(500), torch.tensor(400)]

    kept: list[Tensor] = []
    handle = unet.up_blocks[-1].register_forward_pre_hook(
        lambda _, args, kwargs: kept.append(kwargs["hidden_states"]), with_kwargs=True
    )
    predict(pipeline, latents[0], times[0], text)
    handle.remove()

    embedded = unet.time_embedding(unet.time_proj(times[1].expand(2)))
    entered = unet.conv_in(latents[1])
    _, (seen, _) = unet.down_blocks[0](entered, embedded, encoder_hidden_states=text.states)
    left = unet.up_blocks[-1](
        hidden_states=kept[0], res_hidden_states_tuple=(entered, seen), temb=embedded,
        encoder_hidden_states=text.states,
    )  # fmt: skip
    expected = unet.conv_out(unet.conv_act(unet.conv_norm_out(left)))

    reuse_features(unet, 2)
    found = []
    for step, time in enumerate(times):
        advance_features(unet, anew=step == 0)
        found.append(predict(pipeline, latents[step], time, text))

    torch.testing.assert_close(found[1], expected)
    reuse_features(unet, None)
    assert (predict(pipeline, latents[1], times[1], text) - expected).abs().max() > 1e-3


@pytest.mark.slow
def test_a_compiled_unet_reuses_too_and_is_compiled_twice(homes, monkeypatch):
    """Once with its deep blocks, and once without."""
    pipeline = load_base(Pretrained(id=str(homes["sd"]), revision=None), torch.float32)
    reuse_features(pipeline.unet, 2)
    eager = make(pipeline).int()

    counter = count_compilations(monkeypatch)
    compile_unet(pipeline)

    assert (make(pipeline).int() - eager).abs().max() <= 1
    make(pipeline)
    assert counter.frame_count == 2

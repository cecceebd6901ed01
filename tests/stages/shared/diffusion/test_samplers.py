"""Every sampler, LCM-LoRA and a stopped guidance give what diffusers' own pipelines give.

The models are tiny and random, in the layout of Stable Diffusion and SDXL, and diffusers loads its
own copy of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LatentConsistencyModelImg2ImgPipeline,
    LCMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.callbacks import SDCFGCutoffCallback, SDXLCFGCutoffCallback
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from stages.shared.diffusion.base_model import load_base, load_finetuned
from stages.shared.diffusion.samplers import load_lcm_lora, set_times, use_sampling
from stages.shared.diffusion.sampling import LcmLora, Sampling
from stages.shared.diffusion.text import encode_prompts, predict
from stages.shared.diffusion.translation import References, translate
from stages.shared.pretrained.reference import Pretrained
from tests.support.sampling import PLAIN
from tests.support.tiny_models import save_tiny

FAMILIES = ("sd", "sdxl")
STOCK = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
IMG2IMG = {"sd": StableDiffusionImg2ImgPipeline, "sdxl": StableDiffusionXLImg2ImgPipeline}
CUTOFF = {"sd": SDCFGCutoffCallback, "sdxl": SDXLCFGCutoffCallback}
TURBO = {  # the samplers of Turbo's own pipelines, and the schedulers that these have
    "sd": ("euler", EulerDiscreteScheduler),
    "sdxl": ("euler-ancestral", EulerAncestralDiscreteScheduler),
}
SAMPLING = Sampling(**PLAIN, steps=5, guidance_scale=3.0, resolution=32, batch=2)
PROMPTS = ["a photo of a bird on water", "a photo of a bird with red crown"]
KEYS = ["00000000", "00000003"]
EVERYWHERE = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "ff.net.2"]  # LCM-LoRA has convolutions


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> dict[str, Path]:
    return {family: save_tiny(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


def changed(**changes: Any) -> Sampling:
    return SAMPLING.model_copy(update=changes)


def open_ours(home: Path, sampling: Sampling):
    pipeline = load_base(Pretrained(id=str(home), revision=None), torch.float32)
    use_sampling(pipeline, sampling)
    return pipeline


def ours(home: Path, table, sampling: Sampling, strength: float | None) -> np.ndarray:
    """Two images, int (2, side, side, 3); strength: None from noise alone."""
    pipeline = open_ours(home, sampling)
    sources = [""] * 2 if strength is None else KEYS
    rows = pd.DataFrame({"source_key": sources, "seed": [0, 1]})
    start = References(pipeline, table, sampling).start(rows)
    text = encode_prompts(pipeline, PROMPTS)

    return translate(pipeline, start, text, strength or 1.0, sampling).numpy().astype(int)


def theirs(pipeline, table, strength: float | None, **options: Any) -> np.ndarray:
    """The same of diffusers' pipeline, one image at a time."""
    pipeline.set_progress_bar_config(disable=True)

    images = []
    for seed, prompt in enumerate(PROMPTS):
        given: dict[str, Any] = {"height": 32, "width": 32}
        if strength is not None:
            given = {"image": table.image(int(KEYS[seed])), "strength": strength}

        generator = torch.Generator().manual_seed(seed)
        image = pipeline(prompt, generator=generator, **given, **options).images[0]
        images.append(np.asarray(image, int))

    return np.stack(images)


def load_stock(kinds: dict[str, Any], family: str, home: Path, scheduler, **changes: Any):
    """diffusers' pipeline of a family with another scheduler, as its documentation sets one."""
    pipeline = kinds[family].from_pretrained(home, dtype=torch.float32)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **changes)
    return pipeline


@pytest.mark.parametrize("strength", [0.5, 0.7])
def test_a_turbo_base_is_sampled_as_by_its_own_image_to_image_pipeline(
    homes, family, table, strength
):
    """Two and three of five steps, without guidance."""
    name, scheduler = TURBO[family]
    sampling = changed(sampler=name, guidance_scale=1.0)
    stock = load_stock(IMG2IMG, family, homes[family], scheduler, timestep_spacing="trailing")

    made = theirs(stock, table, strength, num_inference_steps=5, guidance_scale=0.0)
    assert np.abs(ours(homes[family], table, sampling, strength) - made).max() <= 1


def test_a_turbo_base_draws_from_noise_as_its_own_pipeline_does(homes, family, table):
    name, scheduler = TURBO[family]
    sampling = changed(sampler=name, guidance_scale=1.0, steps=2)
    stock = load_stock(STOCK, family, homes[family], scheduler, timestep_spacing="trailing")

    made = theirs(stock, table, None, num_inference_steps=2, guidance_scale=0.0)
    assert np.abs(ours(homes[family], table, sampling, None) - made).max() <= 1


@pytest.mark.parametrize(
    ("strength", "times"), [(0.5, [499, 379, 259, 139]), (0.9, [899, 679, 459, 239])]
)
def test_lcm_takes_all_steps_at_any_strength_spread_below_it(homes, strength, times):
    """Of the 50 times 19, 39, ..., 999: below 0.5 the first 25, below 0.9 the first 45.

    From the last of these down, each step leaves out a quarter of them, rounded down.
    """
    sampling = changed(sampler="lcm", steps=4)
    pipeline = open_ours(homes["sd"], sampling)
    assert set_times(pipeline, sampling, strength).tolist() == times


@pytest.mark.parametrize("strength", [0.5, 0.7, 0.9])
def test_lcm_translates_as_lcms_own_image_to_image_pipeline(homes, table, strength):
    """That has a UNet that is told the scale of guidance: here one that does not listen."""
    stock = load_stock(STOCK, "sd", homes["sd"], LCMScheduler)
    unet = UNet2DConditionModel.from_config(stock.unet.config, time_cond_proj_dim=8)
    unet.load_state_dict(stock.unet.state_dict(), strict=False)
    unet.time_embedding.cond_proj.weight.data.zero_()
    components = stock.components | {"unet": unet}
    components.pop("image_encoder")
    lcm = LatentConsistencyModelImg2ImgPipeline(**components, requires_safety_checker=False)

    made = theirs(lcm, table, strength, num_inference_steps=4)
    sampling = changed(sampler="lcm", steps=4, guidance_scale=1.0)
    assert np.abs(ours(homes["sd"], table, sampling, strength) - made).max() <= 1


def test_lcm_under_guidance_translates_as_the_familys_own_pipeline_at_the_same_times(
    homes, family, table
):
    """Those of strength 0.5, by hand above; strength 1 leaves none of them out."""
    stock = load_stock(IMG2IMG, family, homes[family], LCMScheduler)
    times = [499, 379, 259, 139]
    made = theirs(stock, table, 1.0, timesteps=times, guidance_scale=1.5)

    sampling = changed(sampler="lcm", steps=4, guidance_scale=1.5)
    assert np.abs(ours(homes[family], table, sampling, 0.5) - made).max() <= 1


def test_lcm_draws_from_noise_as_the_familys_own_pipeline_does(homes, family, table):
    stock = load_stock(STOCK, family, homes[family], LCMScheduler)
    made = theirs(stock, table, None, num_inference_steps=4, guidance_scale=1.5)

    sampling = changed(sampler="lcm", steps=4, guidance_scale=1.5)
    assert np.abs(ours(homes[family], table, sampling, None) - made).max() <= 1


def test_guidance_stops_as_by_diffusers_own_cutoff(homes, family, table):
    """Of 20 steps strength 0.5 takes 10: the share is of these, so that 7 are guided.

    diffusers' callback acts at the end of the last guided step, which has the index 6.
    """
    stock = load_stock(IMG2IMG, family, homes[family], DPMSolverMultistepScheduler)
    cutoff = CUTOFF[family](cutoff_step_ratio=None, cutoff_step_index=6)
    made = theirs(
        stock, table, 0.5, num_inference_steps=20, guidance_scale=3.0, callback_on_step_end=cutoff,
        callback_on_step_end_tensor_inputs=cutoff.tensor_inputs,
    )  # fmt: skip

    sampling = changed(steps=20, guidance_stop=0.7)
    assert np.abs(ours(homes[family], table, sampling, 0.5) - made).max() <= 1


def test_an_unguided_step_sees_each_image_once(homes, table):
    sampling = changed(steps=8, guidance_stop=0.5)
    pipeline = open_ours(homes["sd"], sampling)
    sizes: list[int] = []
    pipeline.unet.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))

    start = References(pipeline, table, sampling).start(
        pd.DataFrame({"source_key": ["", ""], "seed": [0, 1]})
    )
    translate(pipeline, start, encode_prompts(pipeline, PROMPTS), 1.0, sampling)
    assert sizes == [4] * 4 + [2] * 4


def test_the_default_is_dpm_solver_guided_at_every_step_to_the_bit(homes, table):
    """Against the loop written out, on a scheduler of the base's own configuration."""
    pipeline = open_ours(homes["sd"], SAMPLING)
    rows = pd.DataFrame({"source_key": ["", ""], "seed": [0, 1]})
    start = References(pipeline, table, SAMPLING).start(rows)
    text = encode_prompts(pipeline, PROMPTS)
    made = translate(pipeline, start, text, 1.0, SAMPLING)

    scheduler = load_stock(STOCK, "sd", homes["sd"], DPMSolverMultistepScheduler).scheduler
    scheduler.set_timesteps(5)
    latents = start.noise * scheduler.init_noise_sigma
    with torch.inference_mode():
        for time in scheduler.timesteps:
            doubled = torch.cat([latents, latents]).contiguous(memory_format=torch.channels_last)
            empty, own = predict(pipeline, doubled, time, text.guided()).chunk(2)
            latents = scheduler.step(empty + 3.0 * (own - empty), time, latents).prev_sample

        decoded = pipeline.vae.decode(latents / pipeline.vae.config.scaling_factor).sample
        expected = pipeline.image_processor.postprocess(decoded, output_type="np")

    assert np.array_equal(made.numpy(), (expected * 255).round().astype(np.uint8))


def save_lora(home: Path, family: str, folder: Path, seed: int, targets: list[str]) -> Path:
    """Write a random LoRA as diffusers saves one."""
    torch.manual_seed(seed)
    pipeline = STOCK[family].from_pretrained(home, dtype=torch.float32)
    config = LoraConfig(r=2, lora_alpha=4, init_lora_weights=False, target_modules=targets)
    pipeline.unet.add_adapter(config)
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
    pipeline.save_lora_weights(folder, state)
    return folder


def unet_output(pipeline) -> torch.Tensor:
    text = encode_prompts(pipeline, PROMPTS)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return predict(pipeline, latents, torch.tensor(500), text.rows(slice(-1)))


def test_lcm_lora_is_fused_beside_the_fine_tuned_one_as_diffusers_adds_two(homes, family, tmp_path):
    home = homes[family]
    tuned = save_lora(home, family, tmp_path / "tuned", 1, ["to_q", "to_k", "to_v", "to_out.0"])
    lcm = save_lora(home, family, tmp_path / "lcm", 2, EVERYWHERE)

    pipeline = open_ours(home, changed(sampler="lcm", steps=4))
    load_finetuned(pipeline, tuned)
    alone = unet_output(pipeline)
    load_lcm_lora(pipeline, LcmLora(id=str(lcm), revision=None))
    both = unet_output(pipeline)

    stock = STOCK[family].from_pretrained(home, dtype=torch.float32)
    stock.load_lora_weights(tuned, adapter_name="tuned")
    stock.load_lora_weights(lcm, adapter_name="lcm")
    stock.set_adapters(["tuned", "lcm"], adapter_weights=[1.0, 1.0])

    torch.testing.assert_close(both, unet_output(stock), atol=1e-4, rtol=1e-4)
    assert (both - alone).abs().max() > 1e-2


def test_no_lcm_lora_leaves_the_unet_alone(homes):
    pipeline = open_ours(homes["sd"], SAMPLING)
    before = unet_output(pipeline)
    load_lcm_lora(pipeline, LcmLora(id=None, revision=None))
    assert torch.equal(unet_output(pipeline), before)


def test_an_lcm_lora_of_another_width_is_refused_by_its_name(homes, tmp_path):
    """As SDXL's is for Stable Diffusion, whose text is narrower."""
    lcm = save_lora(homes["sd"], "sd", tmp_path / "lcm", 2, EVERYWHERE)
    path = lcm / "pytorch_lora_weights.safetensors"
    wider = {
        name: torch.cat([tensor] * 2, dim=1) if "attn2.to_k.lora.down" in name else tensor
        for name, tensor in load_file(path).items()
    }
    save_file(wider, path)

    pipeline = open_ours(homes["sd"], changed(sampler="lcm", steps=4))
    with pytest.raises(SystemExit) as caught:
        load_lcm_lora(pipeline, LcmLora(id=str(lcm), revision=None))
    assert str(caught.value).startswith(f"params.yaml: synth.lcm_lora.id: '{lcm}' cannot be loaded")
    assert "\n" not in str(caught.value)


def test_a_folder_without_an_lcm_lora_is_refused(homes, tmp_path):
    pipeline = open_ours(homes["sd"], changed(sampler="lcm", steps=4))
    with pytest.raises(SystemExit, match=r"lacks pytorch_lora_weights.safetensors; put that there"):
        load_lcm_lora(pipeline, LcmLora(id=str(tmp_path), revision=None))

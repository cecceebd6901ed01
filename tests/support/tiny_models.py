"""Tiny random diffusion models in diffusers' true layout, so that tests need no hub.

They have 4 to 7 MB and are made in seconds. Their configs are those of Stable Diffusion 1.5 and
SDXL in all that changes what code does with them (blocks, text encoders, prediction, scheduler,
scaling); widths and depths are the least that works. They draw noise, not birds.
"""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    AutoencoderKL,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

TOKENIZER = Path(__file__).parents[2] / "data/base/toybirds/pipeline/tokenizer"
WIDTH = 32  # of a text encoder
NOISE: dict[str, Any] = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "prediction_type": "epsilon", "steps_offset": 1,
    "timestep_spacing": "leading",
}  # fmt: skip


def save_tiny(folder: Path, family: Literal["sd", "sdxl"] = "sd", seed: int = 0) -> Path:
    """Write a pipeline of random weights as safetensors; returns the folder.

    Equal seeds give equal weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        pipeline = make_sd() if family == "sd" else make_sdxl()

    pipeline.save_pretrained(folder, safe_serialization=True)

    return folder


def make_sd() -> StableDiffusionPipeline:
    """As Stable Diffusion 1.5: one text encoder, PNDM."""
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)

    return StableDiffusionPipeline(
        vae=autoencoder(scaling_factor=0.18215),
        text_encoder=CLIPTextModel(text_config(tokenizer, hidden_act="quick_gelu")),
        tokenizer=tokenizer,
        unet=unet(
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=WIDTH,
        ),
        scheduler=PNDMScheduler(**NOISE, set_alpha_to_one=False, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_sdxl() -> StableDiffusionXLPipeline:
    """As SDXL: two text encoders, the second of which pools.

    The UNet is told the image's size and crop.
    """
    tokenizers = [CLIPTokenizer.from_pretrained(TOKENIZER) for _ in range(2)]
    ids = 6  # the numbers that tell size, crop and target size
    size = 8  # how wide each of them is embedded

    return StableDiffusionXLPipeline(
        vae=autoencoder(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(text_config(tokenizers[0], hidden_act="quick_gelu")),
        text_encoder_2=CLIPTextModelWithProjection(text_config(tokenizers[1], hidden_act="gelu")),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet(
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=2 * WIDTH,
            transformer_layers_per_block=(1, 2),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=size,
            projection_class_embeddings_input_dim=WIDTH + ids * size,
        ),
        scheduler=EulerDiscreteScheduler(
            **NOISE, interpolation_type="linear", use_karras_sigmas=False
        ),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def text_config(tokenizer: CLIPTokenizer, hidden_act: str) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=2 * WIDTH,
        num_hidden_layers=2, num_attention_heads=2, projection_dim=WIDTH,
        max_position_embeddings=tokenizer.model_max_length, hidden_act=hidden_act,
        # As in the hub's configurations, not as in the tokenizer's.
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip


def autoencoder(scaling_factor: float) -> AutoencoderKL:
    """Four latent channels at half the side.

    It asks for float32 where the rest is half precision, as both families do.
    """
    return AutoencoderKL(
        block_out_channels=(16, 32), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4,
        norm_num_groups=8, sample_size=32, scaling_factor=scaling_factor, force_upcast=True,
    )  # fmt: skip


def unet(**family: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, in_channels=4, out_channels=4,
        sample_size=16, attention_head_dim=2, norm_num_groups=8, **family,
    )  # fmt: skip

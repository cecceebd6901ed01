"""The networks of the embedded base, before training: small ones of diffusers and transformers."""

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from stages.pretraining.text import TOKENS

FACTOR = 8  # pixels a side of a latent pixel
CHANNELS = 16  # of the latents


def make_vae(size: int) -> AutoencoderKL:
    """Many latent channels at an eighth of the side: so the UNet has few places to work at."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(24, 32, 64, 64), layers_per_block=1, latent_channels=CHANNELS,
        norm_num_groups=8, sample_size=size,
    )  # fmt: skip


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(text_config(tokenizer, 128))


def text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width,
        projection_dim=width, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=TOKENS, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def make_unet(size: int) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=size // FACTOR, in_channels=CHANNELS, out_channels=CHANNELS,
        block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, attention_head_dim=2, cross_attention_dim=128, norm_num_groups=16,
    )  # fmt: skip


def make_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion's noise schedule; velocity prediction, as its 2.x family."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction", timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip


def make_clip(tokenizer: CLIPTokenizer, size: int) -> CLIPModel:
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=192, num_hidden_layers=3, num_attention_heads=3,
        projection_dim=64, image_size=size, patch_size=8,
    )  # fmt: skip
    text = text_config(tokenizer, 64)

    config = CLIPConfig(
        text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64
    )
    return CLIPModel(config)

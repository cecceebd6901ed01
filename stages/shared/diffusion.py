"""The text-to-image model: loading it, and the three things that fine-tuning and synthesis both do with it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from stages.shared.errors import BadInput
from stages.shared.pretrained import Pretrained
from stages.shared.runtime import device, precision
from stages.shared.tables import Table

LORA_FILE, TOKENS_FOLDER = "pytorch_lora_weights.safetensors", "tokens"


def load_base(base: Pretrained, dtype: torch.dtype | None = None) -> StableDiffusionPipeline:
    """Load the base with DPM-Solver++ as its sampler; nothing of it requires gradients."""
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    local = Path(base.id).is_dir()
    try:
        pipeline = StableDiffusionPipeline.from_pretrained(
            base.id, revision=None if local else base.revision, local_files_only=local, dtype=dtype or precision(),
            use_safetensors=True, safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )  # fmt: skip
    except (OSError, ValueError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"params.yaml: base.id: {base.id!r} cannot be loaded ({reason}); name a folder or a hub id"
        ) from None
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for model in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        model.requires_grad_(False).eval()
    pipeline.unet.to(memory_format=torch.channels_last)
    return pipeline.to(device())


def load_finetuned(pipeline: StableDiffusionPipeline, folder: Path) -> None:
    """Add what `finetune` learned, through diffusers' own loaders; LoRA is fused into the weights."""
    if (folder / LORA_FILE).exists():
        pipeline.load_lora_weights(folder, weight_name=LORA_FILE)
        pipeline.fuse_lora()
        pipeline.unload_lora_weights()
    tokens = [load_file(path) for path in sorted((folder / TOKENS_FOLDER).glob("*.safetensors"))]
    if tokens:
        pipeline.load_textual_inversion(tokens, token=[next(iter(token)) for token in tokens])


def square(image: Image.Image, resolution: int) -> Image.Image:
    """The image as the model is shown it, whatever its shape was."""
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS)


def to_pixels(images: list[Image.Image], resolution: int) -> Tensor:
    """Square-resized images in [-1, 1], float32 (n, 3, resolution, resolution)."""
    batch = np.stack([np.asarray(square(image, resolution), np.float32) for image in images]) / 255
    return torch.from_numpy(2 * batch - 1).permute(0, 3, 1, 2)


@torch.inference_mode()
def encode_moments(
    pipeline: StableDiffusionPipeline,
    table: Table,
    rows: Sequence[int],
    resolution: int,
    batch: int,
    mirror: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the images' latents, each (n, c, h, w), unscaled, on the CPU.

    No more than `batch` images are in memory at once; `mirror` flips them.
    """
    means, deviations = [], []
    for first in tqdm(range(0, len(rows), batch), desc="encode", disable=len(rows) < 1000):
        pixels = to_pixels([table.image(row) for row in rows[first : first + batch]], resolution)
        pixels = pixels.flip(-1) if mirror else pixels
        latents = pipeline.vae.encode(pixels.to(pipeline.device, pipeline.dtype)).latent_dist
        means.append(latents.mean.cpu())
        deviations.append(latents.std.cpu())
    return torch.cat(means), torch.cat(deviations)


def check_resolution(pipeline: StableDiffusionPipeline, resolution: int, name: str) -> None:
    """Refuse a side that the autoencoder and the UNet cannot halve as often as they must."""
    unit = pipeline.vae_scale_factor * 2 ** (len(pipeline.unet.config.block_out_channels) - 1)
    if resolution % unit:
        raise BadInput(f"params.yaml: {name}: {resolution} is not a multiple of {unit}, which the base model needs")

"""The text-to-image model: loading it, and what fine-tuning and synthesis both do with it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers.utils import logging as transformers_logging

from stages.shared.diffusion.text import encoders
from stages.shared.errors import BadInput
from stages.shared.pretrained.files import (
    PIPELINE_INDEX,
    UNUSED,
    find_folder,
    id_leaf,
    pipeline_files,
    read_index,
    unloadable,
)
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.ahead import ahead
from stages.shared.running.runtime import (
    device,
    precision,
    saves_memory,
    thread_pool,
    to_device,
)
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress

LORA_FILE = "pytorch_lora_weights.safetensors"
TOKENS_FOLDER = "tokens"
SDXL_TOKENS = ("clip_l", "clip_g")  # the encoders' names in a token's file, as diffusers has them
Pipeline: TypeAlias = StableDiffusionPipeline | StableDiffusionXLPipeline
FAMILIES: dict[str, Any] = {
    "StableDiffusionPipeline": StableDiffusionPipeline,  # 1.x and 2.x
    "StableDiffusionXLPipeline": StableDiffusionXLPipeline,
}


def load_base(base: Pretrained, dtype: torch.dtype | None = None) -> Pipeline:
    """Load the base with DPM-Solver++ as its sampler; nothing of it requires gradients.

    Raises BadInput for what is no such model, lacks files, or cannot be fetched.
    """
    for library in (diffusers_logging, transformers_logging):
        library.set_verbosity_error()
        library.disable_progress_bar()

    index = read_index("base", base, PIPELINE_INDEX)
    family = find_family(base, index)
    folder = find_folder("base", base, pipeline_files(index))
    unused = dict.fromkeys(set(UNUSED) & set(index))
    try:
        pipeline = family.from_pretrained(
            folder, local_files_only=True, use_safetensors=True,
            dtype=dtype or precision(), **unused,
        )  # fmt: skip
    except (OSError, ValueError, SafetensorError) as error:
        raise unloadable("base", base, error) from None

    shifted = getattr(pipeline.vae.config, "latents_mean", None)
    if shifted or not hasattr(pipeline.scheduler.config, "beta_schedule"):
        raise BadInput(
            f"{id_leaf('base', base)} scales its latents or its noise in a way of its own; "
            "take another"
        )

    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    for model in (pipeline.unet, pipeline.vae, *(encoder for _, encoder in encoders(pipeline))):
        model.requires_grad_(False).eval()

    fit_into_memory(pipeline)
    for network in (pipeline.unet, pipeline.vae):
        network.to(memory_format=torch.channels_last)

    return pipeline.to(device())


def fit_into_memory(pipeline: Pipeline) -> None:
    """Save memory, which images of 1024 pixels (SDXL) need, and GPUs that have little.

    The autoencoder takes an image at a time, and activations are computed anew for the gradients.
    """
    large = isinstance(pipeline, StableDiffusionXLPipeline)
    if large and pipeline.dtype == torch.float16 and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)  # its activations overflow in fp16
    if large or saves_memory():
        pipeline.vae.enable_slicing()
        pipeline.unet.enable_gradient_checkpointing()


def find_family(base: Pretrained, index: dict[str, Any]) -> Any:
    """The pipeline's class, by its index.

    Raises BadInput for another kind of pipeline, before anything else of it is fetched.
    """
    name = index.get("_class_name")
    if name not in FAMILIES:
        raise BadInput(f"{id_leaf('base', base)} is a {name}; take one of {', '.join(FAMILIES)}")

    return FAMILIES[name]


def load_finetuned(pipeline: Pipeline, folder: Path) -> None:
    """Add what `finetune` learned, through diffusers' own loaders.

    LoRA is fused into the weights.
    """
    if (folder / LORA_FILE).exists():
        fuse_lora(pipeline, folder)

    learned = {
        f"<{path.stem}>": load_file(path)
        for path in sorted((folder / TOKENS_FOLDER).glob("*.safetensors"))
    }
    if not learned:
        return

    for number, (tokenizer, encoder) in enumerate(encoders(pipeline)):
        rows = [tensors[token_keys(pipeline, token)[number]] for token, tensors in learned.items()]
        pipeline.load_textual_inversion(
            rows, token=list(learned), tokenizer=tokenizer, text_encoder=encoder
        )


def fuse_lora(pipeline: Pipeline, folder: Path) -> None:
    """Add the LoRA of a folder to the weights, as they are by now."""
    pipeline.load_lora_weights(folder, weight_name=LORA_FILE)
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()


def token_keys(pipeline: Pipeline, token: str) -> tuple[str, ...]:
    """What a token's file calls its row of each text encoder, by diffusers' conventions."""
    return (token,) if len(encoders(pipeline)) == 1 else SDXL_TOKENS


def square(image: Image.Image, resolution: int) -> Image.Image:
    """The image as the model is shown it, whatever its shape was."""
    return image.resize((resolution, resolution), Image.Resampling.LANCZOS)


def to_bytes(images: list[Image.Image], resolution: int) -> Tensor:
    """Square-resized images as bytes, (n, 3, resolution, resolution)."""
    batch = np.stack([np.asarray(square(image, resolution)) for image in images])
    return torch.from_numpy(batch).permute(0, 3, 1, 2)


@torch.inference_mode()
def encode_pixels(pipeline: Pipeline, pixels: Tensor) -> DiagonalGaussianDistribution:
    """The posterior of the images' latents (n, c, h, w), unscaled; pixels: bytes (n, 3, h, w)."""
    values = 2 * (to_device(pixels, pipeline.device).float() / 255) - 1
    return pipeline.vae.encode(values.to(pipeline.vae.dtype)).latent_dist


@torch.inference_mode()
def encode_moments(
    pipeline: Pipeline,
    table: Table,
    rows: Sequence[int],
    resolution: int,
    batch: int,
    mirror: bool = False,
) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the images' latents, each (n, c, h, w), unscaled, on the CPU.

    No more than `batch` images are on the device at once; `mirror` flips them.
    """
    parts = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    means = []
    deviations = []

    def read(part: Sequence[int]) -> Tensor:
        pixels = to_bytes([table.image(row) for row in part], resolution)
        return pixels.flip(-1) if mirror else pixels

    with thread_pool() as pool:
        loaded = ahead(pool, read, parts)
        for _, pixels in Progress(
            loaded, desc="encode", total=len(parts), disable=len(rows) < 1000
        ):
            latents = encode_pixels(pipeline, pixels)
            means.append(latents.mean.cpu())
            deviations.append(latents.std.cpu())

    return torch.cat(means), torch.cat(deviations)


def check_resolution(pipeline: Pipeline, resolution: int, name: str) -> None:
    """Raises BadInput for a side that is no whole number of latents.

    These need not be halved evenly by the UNet, which then rounds up.
    """
    unit = pipeline.vae_scale_factor
    if resolution % unit:
        raise BadInput(
            f"params.yaml: {name}: {resolution} is not a multiple of {unit}, "
            "which the base model needs"
        )

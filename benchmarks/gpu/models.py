"""Stable Diffusion 1.5 and CLIP ViT-B/32 with random weights, saved as the hub has them.

Nothing is fetched. The stages load these folders as they load the hub's models.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging
from torch import nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.sizes import LENGTH, RANK, VOCABULARY, Sizes
from stages.finetune import Learner
from stages.shared.diffusion.base_model import load_base
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.runtime import device, precision
from stages.shared.schemas.finetune import Finetune

TOKENIZER = Path(__file__).parents[2] / "data/base/toybirds/pipeline/tokenizer/tokenizer.json"
CONTRAST = 0.3  # standard deviation of the pixels in [-1, 1] that the autoencoder draws

# the end-of-text token's number is where CLIP's text encoder pools
ENDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}


def make_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, which `make` fills where it is not there yet."""
    if not folder.exists():
        unfinished = folder.with_suffix(".new")
        make(unfinished)
        unfinished.rename(folder)

    return folder


def base(bench: Bench) -> Pretrained:
    """The folder of Stable Diffusion, as params.yaml would name it."""
    folder = make_once(bench.folder / "base", lambda path: save_base(path, bench.sizes))
    return Pretrained(id=str(folder), revision=None)


def finetuned(bench: Bench) -> Path:
    """A folder such as `finetune` writes: a LoRA and a token for each class."""
    return make_once(bench.folder / "finetuned", lambda path: save_finetuned(path, bench))


def clip(bench: Bench) -> Pretrained:
    """The folder of CLIP ViT-B/32."""
    folder = make_once(bench.folder / "clip", lambda path: save_clip(path, bench.sizes))
    return Pretrained(id=str(folder), revision=None)


def make_tokenizer() -> CLIPTokenizer:
    """The embedded base's tokenizer with as many tokens as CLIP's, most of which no text has."""
    known = json.loads(TOKENIZER.read_text(encoding="utf-8"))["model"]
    vocabulary = dict(known["vocab"])
    for number in range(len(vocabulary), VOCABULARY):
        vocabulary[f"<unused-{number}>"] = number

    merges = [tuple(pair) for pair in known["merges"]]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def make_networks(sizes: Sizes) -> dict[str, nn.Module]:
    """Stable Diffusion's networks, on torch's default device."""
    text = CLIPTextConfig(
        vocab_size=VOCABULARY, max_position_embeddings=LENGTH, **ENDS, **sizes.text
    )

    return {
        "unet": UNet2DConditionModel(**sizes.unet),
        "vae": AutoencoderKL(latent_channels=4, sample_size=sizes.resolution, **sizes.vae),
        "text_encoder": CLIPTextModel(text),
    }


def save_base(folder: Path, sizes: Sizes) -> None:
    logging.set_verbosity_error()
    torch.manual_seed(0)
    with torch.device(device()):  # a GPU draws a thousand million weights in no time
        networks: dict[str, Any] = make_networks(sizes)
    set_contrast(networks["vae"])

    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        set_alpha_to_one=False,
        skip_prk_steps=True,
        steps_offset=1,
    )
    pipeline = StableDiffusionPipeline(
        **networks,
        tokenizer=make_tokenizer(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=precision())
    pipeline.save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def set_contrast(vae: AutoencoderKL) -> None:
    """Scale the last layer, so that the images have a photo's contrast, not that of flat grey.

    To encode flat images takes less time than a real run's.
    """
    latents = torch.randn(1, vae.config.latent_channels, 8, 8, device=device())
    spread = vae.decode(latents).sample.std()
    vae.decoder.conv_out.weight.mul_(CONTRAST / spread)


def save_finetuned(folder: Path, bench: Bench) -> None:
    classes = bench.classes()
    pipeline = load_base(base(bench))
    learner = Learner(pipeline, classes, "ti+db", finetune_params(bench.sizes))

    # as they begin, half of the residues are zeros, which a GPU multiplies with less power
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters:
            parameter.normal_(std=0.01)

    folder.mkdir(parents=True)
    learner.save(folder, classes)


def finetune_params(sizes: Sizes) -> Finetune:
    """The paper's fine-tuning (Table 7), as long as a round."""
    return Finetune(
        lora_rank=RANK,
        learning_rate=5e-5,
        token_learning_rate=5e-5,
        weight_decay=1e-2,
        steps=sizes.finetune_steps,
        batch=sizes.finetune_batch,
        class_balanced=False,
        resolution=sizes.resolution,
    )


def save_clip(folder: Path, sizes: Sizes) -> None:
    torch.manual_seed(0)
    with torch.device(device()):
        model = CLIPModel(CLIPConfig(**sizes.clip))

    model.to(precision()).save_pretrained(folder, safe_serialization=True)
    CLIPProcessor(CLIPImageProcessor(), make_tokenizer()).save_pretrained(folder)

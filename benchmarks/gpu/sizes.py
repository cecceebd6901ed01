"""How large everything is: as in the paper, or tiny, for a CPU."""

from dataclasses import dataclass, field
from typing import Any

from stages.shared.classifier.choices import Architecture

STRENGTHS = (0.5, 0.7, 0.9)  # Sec. 4.2
GUIDANCE = 7.5
RANK = 10  # of LoRA, Sec. 4
VOCABULARY = 49_408  # tokens of CLIP's tokenizer
LENGTH = 77  # tokens of a prompt


@dataclass(frozen=True)
class Recipe:
    """A classifier's network and sizes."""

    architecture: Architecture
    resize: int
    resolution: int
    batch: int


@dataclass(frozen=True)
class Sizes:
    """All numbers that differ between the two; defaults are Stable Diffusion 1.5's and CLIP's."""

    name: str
    rounds: int
    resolution: int  # pixels a side

    # networks, as their configuration classes take them
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    clip: dict[str, Any]
    classes: int

    steps: int  # of the sampler, of which a strength takes its share

    # translation: images at once, and images a strength of the loop that takes one at a time
    batch: int
    other_batches: tuple[int, ...]
    single_images: int

    finetune_batch: int
    finetune_steps: int  # a round

    filter_images: int
    plain_filter_images: int  # a round of the slow loops

    recipes: tuple[Recipe, ...]
    epoch_batches: int

    matrix: int  # rows of the product that shows the card's peak
    forwards: int  # of the UNet alone, a round
    pictures: int = field(default=256)  # that differ; a table repeats them


FULL = Sizes(
    name="full",
    rounds=3,
    resolution=512,
    unet={"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    vae={
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    },
    text={
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    clip={},  # CLIPConfig's defaults are ViT-B/32's
    classes=200,
    steps=25,
    batch=16,
    other_batches=(8, 32),
    single_images=2,
    finetune_batch=8,
    finetune_steps=10,
    filter_images=2000,
    plain_filter_images=128,
    recipes=(
        Recipe("resnet50", 512, 448, 64),
        Recipe("vit_b_16", 440, 384, 32),
    ),
    epoch_batches=20,
    matrix=8192,
    forwards=5,
)

NARROW = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}

TINY = Sizes(
    name="tiny",
    rounds=1,
    resolution=16,
    unet={
        "sample_size": 8,
        "cross_attention_dim": 32,
        "attention_head_dim": 2,
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D",),
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
    vae={
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "layers_per_block": 1,
        "norm_num_groups": 8,
    },
    text={**NARROW, "num_attention_heads": 2, "projection_dim": 32},
    clip={
        "text_config": {**NARROW, "num_attention_heads": 2},
        "vision_config": {**NARROW, "num_attention_heads": 2},
        "projection_dim": 32,
    },
    classes=3,
    steps=4,
    batch=2,
    other_batches=(1, 3),
    single_images=1,
    finetune_batch=2,
    finetune_steps=2,
    filter_images=40,
    plain_filter_images=4,
    recipes=(
        Recipe("resnet18", 40, 32, 4),
        Recipe("vit_b_16", 40, 32, 4),
    ),
    epoch_batches=1,
    matrix=64,
    forwards=1,
    pictures=8,
)

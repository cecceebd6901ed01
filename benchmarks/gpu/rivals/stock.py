"""What ours is compared with: diffusers' own pipeline, in batches and as the official code uses it.

The official code is Zhicaiwww/Diff-Mix at a81337b: scripts/sample_mp.py, augmentation/diff_mix.py.
"""

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionImg2ImgPipeline
from PIL import Image

from benchmarks.gpu.sizes import GUIDANCE
from stages.shared.diffusion.base_model import LORA_FILE, load_finetuned, square
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import buckets
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.runtime import device, precision
from stages.shared.tables import Table, encode_png


def load_pipeline(base: Pretrained) -> Any:
    """diffusers' image-to-image pipeline with DPM-Solver++, as its own loader gives it."""
    pipeline = StableDiffusionImg2ImgPipeline.from_pretrained(
        base.id,
        use_safetensors=True,
        dtype=precision(),
        safety_checker=None,
        requires_safety_checker=False,
    ).to(device())
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_fused(base: Pretrained, finetuned: Path) -> Any:
    """With what was learned; LoRA is fused into the weights."""
    pipeline = load_pipeline(base)
    load_finetuned(pipeline, finetuned)
    return pipeline


def load_official(base: Pretrained, finetuned: Path, tokens: list[str]) -> Any:
    """With LoRA beside the weights, and the classes' tokens in the text encoder's own table.

    The tokens' rows are random: they cost what learned ones do.
    """
    pipeline = load_pipeline(base)
    pipeline.load_lora_weights(finetuned, weight_name=LORA_FILE)
    pipeline.tokenizer.add_tokens(tokens)
    pipeline.text_encoder.resize_token_embeddings(len(pipeline.tokenizer), mean_resizing=False)
    return pipeline


def translate_officially(
    pipeline: Any, prompts: list[str], table: Table, rows: pd.DataFrame, steps: int, folder: Path
) -> None:
    """Translate an image at a time, its prompt encoded for it; Pillow's default PNGs."""
    side = pipeline.vae.config.sample_size
    on_gpu = pipeline.device.type == "cuda"
    places = {key: place for place, key in enumerate(table.rows["key"])}

    for row in rows.to_dict("records"):
        reference = table.image(places[row["source_key"]])
        with torch.autocast(pipeline.device.type, enabled=on_gpu):
            made = pipeline(
                prompt=[prompts[row["target_label"]]],
                image=[reference.resize((side, side), Image.Resampling.BILINEAR)],
                strength=row["strength"],
                guidance_scale=GUIDANCE,
                num_inference_steps=steps,
                num_images_per_prompt=1,
            ).images[0]
        enlarged = made.resize(reference.size, Image.Resampling.BILINEAR)
        enlarged.save(folder / f"{row['key']}.png")


def translate(
    pipeline: Any,
    text: Text,
    table: Table,
    rows: pd.DataFrame,
    batch: int,
    steps: int,
    folder: Path,
) -> None:
    """Translate in batches, prompts encoded before; PNGs are compressed as little as ours."""
    side = pipeline.vae.config.sample_size
    places = {key: place for place, key in enumerate(table.rows["key"])}

    for part in buckets(rows, batch):
        images = [square(table.image(places[key]), side) for key in part["source_key"]]
        made = pipeline(
            prompt_embeds=text.states[part["target_label"].tolist()],
            negative_prompt_embeds=text.states[-1:].expand(len(part), -1, -1),
            image=images,
            strength=float(part["strength"].iloc[0]),
            guidance_scale=GUIDANCE,
            num_inference_steps=steps,
        ).images

        for key, image in zip(part["key"], made, strict=True):
            (folder / f"{key}.png").write_bytes(encode_png(image))

"""Make the embedded base: a small Stable Diffusion pipeline and a CLIP, trained from scratch.

Reads nothing. Writes data/base/toybirds/{pipeline,clip,recipe.json}, which git keeps. Not a DVC stage: it plays
the part of the public checkpoint. It resumes from .work/pretrain-<recipe>/ when interrupted.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import trainers
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from stages.datasets.toyscenes import WITH, WITHOUT, Corpus, render_corpus
from stages.shared.runtime import device

RECIPE: dict[str, Any] = {
    "size": 32, "scenes": 80_000, "kinds": 400, "seed": 0,
    "vae": {"steps": 5_000, "batch": 32, "learning_rate": 1.5e-3, "kl": 1e-6, "foreground": 3.0},
    "clip": {"steps": 1_500, "batch": 64, "learning_rate": 1e-3},
    "unet": {"steps": 3_200, "batch": 64, "learning_rate": 1e-3, "caption_dropout": 0.1},
}  # fmt: skip
TOKENS = 32  # the text encoder's context length
WORK = Path(f".work/pretrain-{hashlib.sha256(json.dumps(RECIPE).encode()).hexdigest()[:8]}")
HOME = Path("data/base/toybirds")
CHECKPOINT_SECONDS = 300


def train(name: str, model: nn.Module, loss: Callable[[torch.Generator], Tensor], steps: int, learning_rate: float):
    """Optimise `loss` over `model`'s parameters; leaves the moving average in `model`.

    AdamW, 100 warm-up steps, linear decay over the last third. Step k draws from generator (seed, k), so that a
    resumed run follows the interrupted one. Returns the loss curve, one mean per 100 steps.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=1e-4, betas=(0.9, 0.99))
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    ramp = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1, (k + 1) / 100, 3 * (steps - k) / steps))
    state = nn.ModuleDict({"model": model, "average": average})
    path, curve, first = WORK / f"{name}.pt", [], 0
    if path.exists():
        saved = torch.load(path, map_location=device(), weights_only=True)
        state.load_state_dict(saved["state"])
        optimizer.load_state_dict(saved["optimizer"])
        ramp.load_state_dict(saved["ramp"])
        curve, first = saved["curve"], saved["step"]
    losses, last_save = [], time.monotonic()
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=name, mininterval=10)
    for step in bar:
        value = loss(torch.Generator().manual_seed(RECIPE["seed"] * 10**6 + step))
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ramp.step()
        average.update_parameters(model)
        losses.append(value.detach())
        if len(losses) == 100:
            curve.append(round(float(torch.stack(losses).mean()), 5))
            bar.set_postfix(loss=curve[-1])
            losses.clear()
        if step + 1 == steps or (not losses and time.monotonic() - last_save > CHECKPOINT_SECONDS):
            last_save = time.monotonic()
            saved = {"state": state.state_dict(), "optimizer": optimizer.state_dict(), "ramp": ramp.state_dict()}
            torch.save({**saved, "curve": curve, "step": step + 1}, path.with_suffix(".new"))
            path.with_suffix(".new").replace(path)
    model.load_state_dict(average.module.state_dict())
    return curve


def make_tokenizer(captions: list[list[str]]) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer in which each word of the captions is one token."""
    blank = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1})
    trainer = trainers.BpeTrainer(vocab_size=10**5, min_frequency=2, end_of_word_suffix="</w>", show_progress=False)
    blank.backend_tokenizer.train_from_iterator((text for texts in captions for text in texts[:2]), trainer)
    merges = json.loads(blank.backend_tokenizer.to_str())["model"]["merges"]
    alphabet = sorted(bytes_to_unicode())
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += dict.fromkeys("".join(merge) for merge in merges)
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(merge) for merge in merges], model_max_length=TOKENS)


def bytes_to_unicode() -> list[str]:
    """The 256 printable letters that byte-level BPE writes bytes as (GPT-2)."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, int64 (n, TOKENS)."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def pixels(images: np.ndarray, rows: Tensor) -> Tensor:
    """The chosen images as floats in [-1, 1], (n, 3, size, size), channels last."""
    batch = torch.from_numpy(images[rows.numpy()]).to(device()).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def make_vae() -> AutoencoderKL:
    """Eight latent channels at a quarter of the side: enough for a wing bar of two pixels."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=(24, 32, 64), layers_per_block=1, latent_channels=8, norm_num_groups=8,
        sample_size=RECIPE["size"],
    )  # fmt: skip


def make_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    return CLIPTextModel(text_config(tokenizer, 128))


def text_config(tokenizer: CLIPTokenizer, width: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=2 * width, projection_dim=width,
        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip


def make_unet() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=RECIPE["size"] // 4, in_channels=8, out_channels=8, block_out_channels=(64, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1, attention_head_dim=2, cross_attention_dim=128, norm_num_groups=16,
    )  # fmt: skip


def make_scheduler() -> DPMSolverMultistepScheduler:
    """Stable Diffusion's noise schedule; velocity prediction, as its 2.x family."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        timestep_spacing="leading", steps_offset=1,
    )  # fmt: skip


def make_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    vision = CLIPVisionConfig(
        hidden_size=96, intermediate_size=192, num_hidden_layers=3, num_attention_heads=3, projection_dim=64,
        image_size=RECIPE["size"], patch_size=4,
    )  # fmt: skip
    text = text_config(tokenizer, 64)
    return CLIPModel(CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=64))


def train_vae(vae: AutoencoderKL, corpus: Corpus) -> list[float]:
    """Absolute error, the foreground weighted up, with a faint KL term."""
    recipe = RECIPE["vae"]

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(corpus.images), (recipe["batch"],), generator=generator)
        real = pixels(corpus.images, rows)
        weight = 1 + recipe["foreground"] * torch.from_numpy(corpus.masks[rows.numpy()]).to(device())[:, None]
        posterior = vae.encode(real).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample
        return ((decoded - real).abs() * weight).mean() + recipe["kl"] * posterior.kl().mean()

    return train("vae", vae.to(memory_format=torch.channels_last), loss, recipe["steps"], recipe["learning_rate"])


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: np.ndarray) -> Tensor:
    """Latent means of the whole corpus, (n, 8, size/4, size/4), scaled to unit variance.

    The scale is stored in the autoencoder's config, where diffusers looks for it.
    """
    path = WORK / "latents.pt"
    if not path.exists():
        batches = torch.arange(len(images)).split(250)
        means = [vae.encode(pixels(images, rows)).latent_dist.mean.cpu() for rows in tqdm(batches, desc="encode")]
        torch.save(torch.cat(means).contiguous(), path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
    latents = torch.load(path, weights_only=True)
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    return latents * vae.config.scaling_factor


def train_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, corpus: Corpus) -> list[float]:
    """Contrastive over captions, plus the presence question that the filter asks (with a bird / without)."""
    recipe = RECIPE["clip"]
    tokens = tokenize(tokenizer, [texts[0] for texts in corpus.captions])
    question = tokenize(tokenizer, [WITH, WITHOUT])
    presence = torch.from_numpy(~corpus.presence).long()

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(tokens), (recipe["batch"],), generator=generator)
        texts = torch.cat([tokens[rows], question]).to(device())
        out = clip(input_ids=texts, pixel_values=pixels(corpus.images, rows))
        same = (texts[:-2, None] == texts[None, :-2]).all(-1).float()
        logits = out.logits_per_image[:, :-2]
        pairs = F.cross_entropy(logits, same / same.sum(1, keepdim=True)) / 2
        pairs = pairs + F.cross_entropy(logits.T, same / same.sum(1, keepdim=True)) / 2
        return pairs + F.cross_entropy(out.logits_per_image[:, -2:], presence[rows].to(device()))

    return train("clip", clip, loss, recipe["steps"], recipe["learning_rate"])


def train_unet(unet, text_encoder, tokenizer: CLIPTokenizer, latents: Tensor, captions: list[list[str]]) -> list[float]:
    """Velocity prediction (Salimans and Ho, 2022) with the text encoder in tow, some captions dropped."""
    recipe = RECIPE["unet"]
    scheduler = make_scheduler()
    variants = len(captions[0])
    tokens = tokenize(tokenizer, [text for texts in captions for text in texts]).reshape(-1, variants, TOKENS)
    empty = tokenize(tokenizer, [""])[0]
    unet.to(memory_format=torch.channels_last)

    def loss(generator: torch.Generator) -> Tensor:
        size = recipe["batch"]
        rows = torch.randint(len(latents), (size,), generator=generator)
        prompts = tokens[rows, torch.randint(variants, (size,), generator=generator)]
        dropped = torch.rand(size, generator=generator) < recipe["caption_dropout"]
        prompts = torch.where(dropped[:, None], empty, prompts)
        noise = torch.randn(latents[rows].shape, generator=generator)
        times = torch.randint(scheduler.config.num_train_timesteps, (size,), generator=generator)
        root = scheduler.alphas_cumprod[times].sqrt()[:, None, None, None]
        spread = (1 - root**2).sqrt()
        noisy = (root * latents[rows] + spread * noise).contiguous(memory_format=torch.channels_last)
        velocity = root * noise - spread * latents[rows]
        noisy, velocity, times, prompts = (part.to(device()) for part in (noisy, velocity, times, prompts))
        return F.mse_loss(unet(noisy, times, text_encoder(prompts).last_hidden_state).sample, velocity)

    pair = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    return train("unet", pair, loss, recipe["steps"], recipe["learning_rate"])


def save(vae, text_encoder, tokenizer, unet, clip, curves: dict[str, list[float]]) -> None:
    """Write both folders in half precision (they are loaded in full) with the recipe beside them."""
    pipeline = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, make_scheduler(), safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(HOME / "pipeline")
    side = {"height": RECIPE["size"], "width": RECIPE["size"]}
    images = CLIPImageProcessor(
        size=side, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )  # the range that `pixels` gives
    CLIPProcessor(image_processor=images, tokenizer=tokenizer).save_pretrained(HOME / "clip")
    clip.half().save_pretrained(HOME / "clip")
    versions = {library: version(library) for library in ("torch", "diffusers", "transformers")}
    making = {"recipe": RECIPE, "versions": versions, "losses": curves}
    (HOME / "recipe.json").write_text(json.dumps(making, indent=1) + "\n")


def main() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(RECIPE["seed"])
    corpus = render_corpus(
        RECIPE["scenes"], RECIPE["kinds"], RECIPE["size"], RECIPE["seed"], workers=os.cpu_count() or 1
    )
    tokenizer = make_tokenizer(corpus.captions)
    vae, clip, unet, text_encoder = make_vae(), make_clip(tokenizer), make_unet(), make_text_encoder(tokenizer)
    for model in (vae, clip, unet, text_encoder):
        model.to(device())
    curves = {"vae": train_vae(vae, corpus)}
    latents = encode_all(vae.requires_grad_(False), corpus.images)
    curves["clip"] = train_clip(clip, tokenizer, corpus)
    curves["unet"] = train_unet(unet, text_encoder, tokenizer, latents, corpus.captions)
    save(vae, text_encoder, tokenizer, unet, clip, curves)


if __name__ == "__main__":
    main()

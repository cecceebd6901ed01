"""Make the embedded base from scratch: a small Stable Diffusion pipeline, a CLIP, and a judge.

Reads:  nothing
Writes: data/base/toybirds/{pipeline,clip,judge,recipe.json}, which git keeps
Paper:  –

This is a tool, not a stage of the pipeline; what it makes stands in for the public checkpoint:

    python -m stages.pretrain [base] [judge]

Without a name it makes both parts; the base is the pipeline and CLIP. An interrupted run goes on
from .work/pretrain-<recipe>/. The base is trained on scenes that never show one of the species. The
judge, which measures images, is trained on the species alone, and takes no part in making images.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from tokenizers import trainers
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm
from transformers import CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from stages.datasets.toybirds.drawing import SPECIES
from stages.datasets.toybirds.tables import SIZE, render_species
from stages.pretraining.architectures import (
    TOKENS,
    make_clip,
    make_scheduler,
    make_text_encoder,
    make_unet,
    make_vae,
)
from stages.pretraining.scenes import WITH, WITHOUT, Corpus, render_corpus
from stages.pretraining.training import train
from stages.shared.errors import BadInput
from stages.shared.measuring.judge import Judge, make_judge, save_judge
from stages.shared.paths import TOYBIRDS_BASE
from stages.shared.running.checkpoint import save_checkpoint
from stages.shared.running.runtime import device

RECIPE: dict[str, Any] = {
    "size": SIZE, "scenes": 80_000, "kinds": 400, "seed": 0,
    "vae": {"steps": 5_000, "batch": 32, "learning_rate": 1.5e-3, "kl": 1e-6, "foreground": 3.0},
    "clip": {"steps": 1_500, "batch": 64, "learning_rate": 1e-3},
    "unet": {"steps": 3_200, "batch": 64, "learning_rate": 1e-3, "caption_dropout": 0.1},
    "judge": {"images": 12_000, "epochs": 12, "batch": 64, "learning_rate": 3e-3, "seed": 1},
}  # fmt: skip
WORK = Path(f".work/pretrain-{hashlib.sha256(json.dumps(RECIPE).encode()).hexdigest()[:8]}")


def fit(
    name: str, model: nn.Module, loss: Callable[[torch.Generator], Tensor], steps: int
) -> list[float]:
    """Train one network by its entry of the recipe; returns its loss curve."""
    recipe = RECIPE[name]
    seed = recipe.get("seed", RECIPE["seed"])
    return train(WORK / f"{name}.pt", model, loss, steps, recipe["learning_rate"], seed)


def make_tokenizer(captions: list[list[str]]) -> CLIPTokenizer:
    """A byte-level CLIP tokenizer in which each word of the captions is one token."""
    blank = CLIPTokenizer(vocab={"<|startoftext|>": 0, "<|endoftext|>": 1})
    trainer = trainers.BpeTrainer(
        vocab_size=10**5, min_frequency=2, end_of_word_suffix="</w>", show_progress=False
    )
    texts = (text for variants in captions for text in variants[:2])
    blank.backend_tokenizer.train_from_iterator(texts, trainer)
    merges = json.loads(blank.backend_tokenizer.to_str())["model"]["merges"]

    # CLIP's order: the special tokens, all letters, all letters that end a word, merged pairs
    alphabet = sorted(bytes_to_unicode())
    tokens = ["<|startoftext|>", "<|endoftext|>", *alphabet]
    tokens += [letter + "</w>" for letter in alphabet]
    tokens += ["".join(merge) for merge in merges]

    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    pairs = [tuple(merge) for merge in merges]
    return CLIPTokenizer(vocab=vocab, merges=pairs, model_max_length=TOKENS)


def bytes_to_unicode() -> list[str]:
    """The 256 printable letters that byte-level BPE writes bytes as (GPT-2)."""
    from tokenizers.pre_tokenizers import ByteLevel

    return ByteLevel.alphabet()


def tokenize(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, int64 (n, TOKENS)."""
    return tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids


def pixels(images: np.ndarray, rows: Tensor) -> Tensor:
    """The chosen images as floats in [-1, 1], (n, 3, size, size), channels last."""
    chosen = torch.from_numpy(images[rows.numpy()]).to(device())
    scaled = chosen.permute(0, 3, 1, 2).float() / 127.5 - 1
    return scaled.contiguous(memory_format=torch.channels_last)


def train_vae(vae: AutoencoderKL, corpus: Corpus) -> list[float]:
    """Train for the absolute error, the foreground weighted up, with a small KL term."""
    recipe = RECIPE["vae"]

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(corpus.images), (recipe["batch"],), generator=generator)
        real = pixels(corpus.images, rows)
        masks = torch.from_numpy(corpus.masks[rows.numpy()]).to(device())[:, None]
        weight = 1 + recipe["foreground"] * masks

        posterior = vae.encode(real).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample

        return ((decoded - real).abs() * weight).mean() + recipe["kl"] * posterior.kl().mean()

    return fit("vae", vae.to(memory_format=torch.channels_last), loss, recipe["steps"])


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: np.ndarray) -> Tensor:
    """Latent means of the whole corpus, (n, 8, size/4, size/4), scaled to unit variance.

    The scale is stored in the autoencoder's config, where diffusers looks for it.
    """
    path = WORK / "latents.pt"
    if not path.exists():
        means = []
        for rows in tqdm(torch.arange(len(images)).split(250), desc="encode"):
            means.append(vae.encode(pixels(images, rows)).latent_dist.mean.cpu())
        save_checkpoint({"latents": torch.cat(means).contiguous()}, path)

    latents = torch.load(path, weights_only=True)["latents"]
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))
    return latents * vae.config.scaling_factor


def train_clip(clip: CLIPModel, tokenizer: CLIPTokenizer, corpus: Corpus) -> list[float]:
    """Train for the contrast between captions and for the question that the filter asks.

    That question is whether a picture is one with a bird or without.
    """
    recipe = RECIPE["clip"]
    tokens = tokenize(tokenizer, [texts[0] for texts in corpus.captions])
    question = tokenize(tokenizer, [WITH, WITHOUT])
    presence = torch.from_numpy(~corpus.presence).long()

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(tokens), (recipe["batch"],), generator=generator)
        texts = torch.cat([tokens[rows], question]).to(device())
        logits = clip(input_ids=texts, pixel_values=pixels(corpus.images, rows)).logits_per_image
        pair_logits = logits[:, :-2]
        question_logits = logits[:, -2:]

        # scenes of one batch may share a caption: each of them is a right answer to it
        same = (texts[:-2, None] == texts[None, :-2]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        pairs = F.cross_entropy(pair_logits, target) / 2
        pairs = pairs + F.cross_entropy(pair_logits.T, target) / 2

        return pairs + F.cross_entropy(question_logits, presence[rows].to(device()))

    return fit("clip", clip, loss, recipe["steps"])


def train_unet(
    unet, text_encoder, tokenizer: CLIPTokenizer, latents: Tensor, captions: list[list[str]]
) -> list[float]:
    """Train U-Net and text encoder to predict velocities (Salimans and Ho, 2022).

    Some captions are dropped, as classifier-free guidance needs it.
    """
    recipe = RECIPE["unet"]
    scheduler = make_scheduler()
    variants = len(captions[0])
    flat = tokenize(tokenizer, [text for texts in captions for text in texts])
    tokens = flat.reshape(-1, variants, TOKENS)
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
        mixed = root * latents[rows] + spread * noise
        noisy = mixed.contiguous(memory_format=torch.channels_last)
        velocity = root * noise - spread * latents[rows]

        noisy, velocity, times, prompts = (
            part.to(device()) for part in (noisy, velocity, times, prompts)
        )
        hidden = text_encoder(prompts).last_hidden_state
        return F.mse_loss(unet(noisy, times, hidden).sample, velocity)

    pair = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    return fit("unet", pair, loss, recipe["steps"])


def train_judge(judge: Judge) -> list[float]:
    """Train by cross-entropy on rendered birds of the species, on water and on land alike."""
    recipe = RECIPE["judge"]
    images, labels = map(torch.from_numpy, render_species(recipe["images"], recipe["seed"]))
    images = images.permute(0, 3, 1, 2)

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(labels), (recipe["batch"],), generator=generator)
        return F.cross_entropy(judge.network(images[rows].to(device())), labels[rows].to(device()))

    steps = recipe["epochs"] * (recipe["images"] // recipe["batch"])
    curve = fit("judge", judge.network, loss, steps)

    # the averaged weights need batch statistics of their own
    update_bn(images.split(recipe["batch"]), judge.network, device())
    return curve


def save(vae, text_encoder, tokenizer, unet, clip) -> None:
    """Write pipeline and CLIP in half precision (they are loaded in full)."""
    pipeline = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, make_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.to(torch.float16).save_pretrained(TOYBIRDS_BASE / "pipeline")

    side = {"height": RECIPE["size"], "width": RECIPE["size"]}
    half = [0.5] * 3  # gives the range that `pixels` gives
    images = CLIPImageProcessor(size=side, do_center_crop=False, image_mean=half, image_std=half)
    processor = CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    processor.save_pretrained(TOYBIRDS_BASE / "clip")
    clip.half().save_pretrained(TOYBIRDS_BASE / "clip")


def record(curves: dict[str, list[float]]) -> None:
    """Note how the networks of `curves` were made; what recipe.json says of the others stays."""
    path = TOYBIRDS_BASE / "recipe.json"
    made: dict[str, dict[str, Any]] = {"recipe": {}, "versions": {}, "losses": {}}
    if path.exists():
        made = json.loads(path.read_text())

    for name, value in RECIPE.items():
        if name in curves or not isinstance(value, dict):
            made["recipe"][name] = value
    versions = {library: version(library) for library in ("torch", "diffusers", "transformers")}
    made["versions"] |= dict.fromkeys(curves, versions)
    made["losses"] |= curves

    path.write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


def pretrain_base() -> dict[str, list[float]]:
    """Pipeline and CLIP, which share a corpus and a tokenizer."""
    torch.manual_seed(RECIPE["seed"])
    size = RECIPE["size"]
    workers = os.cpu_count() or 1
    corpus = render_corpus(RECIPE["scenes"], RECIPE["kinds"], size, RECIPE["seed"], workers)
    tokenizer = make_tokenizer(corpus.captions)

    # in this order: each draws its first weights from the common generator
    vae = make_vae(size)
    clip = make_clip(tokenizer, size)
    unet = make_unet(size)
    text_encoder = make_text_encoder(tokenizer)
    for model in (vae, clip, unet, text_encoder):
        model.to(device())

    curves = {"vae": train_vae(vae, corpus)}
    latents = encode_all(vae.requires_grad_(False), corpus.images)
    curves["clip"] = train_clip(clip, tokenizer, corpus)
    curves["unet"] = train_unet(unet, text_encoder, tokenizer, latents, corpus.captions)

    save(vae, text_encoder, tokenizer, unet, clip)
    return curves


def pretrain_judge() -> dict[str, list[float]]:
    """The judge, which is trained on the species alone."""
    torch.manual_seed(RECIPE["judge"]["seed"])
    judge = make_judge(len(SPECIES), RECIPE["size"])
    curves = {"judge": train_judge(judge)}

    save_judge(judge, len(SPECIES), TOYBIRDS_BASE / "judge")
    return curves


PARTS = {"base": pretrain_base, "judge": pretrain_judge}


def main() -> None:
    chosen = sys.argv[1:] or list(PARTS)
    if strange := [name for name in chosen if name not in PARTS]:
        raise BadInput(
            f"python -m stages.pretrain: there is no part {strange[0]!r}; name {' or '.join(PARTS)}"
        )

    WORK.mkdir(parents=True, exist_ok=True)
    for name, pretrain in PARTS.items():
        if name in chosen:
            record(pretrain())


if __name__ == "__main__":
    main()

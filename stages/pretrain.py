"""Make the embedded base from scratch: a small Stable Diffusion pipeline, a CLIP, a judge.

Reads:  nothing
Writes: data/base/toybirds/{pipeline,clip,judge,recipe.json}, which git keeps
Paper:  –

This is a tool, not a stage of the pipeline. What it makes stands in for the public checkpoint:

    python -m stages.pretrain [vae] [unet] [clip] [judge] [--continue]

Without a name it makes all parts, in this order: each needs those before it. An interrupted run
goes on from .work/pretrain/. With --continue the networks start from the weights that are
in data/base/toybirds, for another sitting of as many steps; a part that does not fit the
architecture is started anew. Several processes share the work:

    DIFFMIX_LAUNCHER="accelerate launch --multi_gpu --num_processes 2" python -m stages.pretrain

The base is trained on scenes that never show one of the species. The judge, which measures images,
is trained on the species alone, and takes no part in making images.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from transformers import CLIPImageProcessor, CLIPProcessor, CLIPTokenizer

from stages.datasets.toybirds.drawing import SIZE
from stages.datasets.toybirds.species import SPECIES
from stages.datasets.toybirds.tables import render_species
from stages.pretraining.architectures import (
    make_clip,
    make_scheduler,
    make_text_encoder,
    make_unet,
    make_vae,
)
from stages.pretraining.autoencoder import encode_all, redraw, set_scale, smear, vae_loss
from stages.pretraining.contrast import add_smears, clip_loss
from stages.pretraining.denoiser import unet_loss
from stages.pretraining.scenes import BrokenScenes, Corpus, Scenes, render_corpus
from stages.pretraining.text import make_tokenizer
from stages.pretraining.training import Loss, train
from stages.shared.measuring.judge import Judge, make_judge, save_judge
from stages.shared.paths import TOYBIRDS_BASE
from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.running.processes import launch, processes
from stages.shared.running.runtime import cores, device

RECIPE: dict[str, Any] = {
    "size": SIZE, "scenes": 80_000, "kinds": 400, "seed": 0,
    "vae": {"steps": 2_500, "batch": 8, "learning_rate": 1e-3, "kl": 1e-6, "foreground": 3.0},
    # a batch is a process's
    "unet": {
        "steps": 12_800, "batch": 32, "learning_rate": 1e-3, "caption_dropout": 0.1,
        "foreground": 2.0,
    },
    # `redrawn`: this share of the pictures is seen as the autoencoder draws them
    "clip": {
        "steps": 1_500, "batch": 64, "learning_rate": 1e-3, "broken": 12_000, "smears": 6_000,
        "redrawn": 0.5,
    },
    "judge": {"steps": 2_250, "batch": 64, "learning_rate": 3e-3, "images": 12_000},
}  # fmt: skip
SEES_VAE = ("unet", "clip")  # trained on what the autoencoder makes of pictures
WORK = Path(".work/pretrain")
RECORD = "recipe.json"
PIPELINE = TOYBIRDS_BASE / "pipeline"
VAE_WEIGHTS = PIPELINE / "vae/diffusion_pytorch_model.safetensors"


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def fit(name: str, model: nn.Module, loss: Loss, goes_on: bool) -> list[float]:
    """Train one network by its entry of the recipe; returns its loss curve."""
    recipe = RECIPE[name]
    sitting = len(read_record().get(name, [])) if goes_on else 0
    sees = [vae_key()] if name in SEES_VAE else []
    path = WORK / f"{name}-{digest(world(), recipe, sitting, *sees)}.pt"
    seed = RECIPE["seed"] + sitting

    return train(path, model, loss, recipe["steps"], recipe["learning_rate"], seed)


def common(name: str, key: Any, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` returns, made once, by the first process, and kept for the key."""
    path = WORK / f"{name}-{digest(world(), key)}.pt"
    if processes().is_main_process and not path.exists():
        save_checkpoint(make(), path)

    processes().wait_for_everyone()
    return load_checkpoint(path)


def load_corpus(name: str, scenes: Scenes | BrokenScenes) -> Corpus:
    """The scenes, drawn once."""

    def draw() -> dict[str, Any]:
        images, masks, captions, whole = render_corpus(scenes, os.cpu_count() or 1)
        arrays = (torch.from_numpy(array) for array in (images, masks, whole))
        return dict(zip(("images", "masks", "whole"), arrays, strict=True)) | {"captions": captions}

    kept = common(name, len(scenes), draw)
    images, masks, whole = (kept[part].numpy() for part in ("images", "masks", "whole"))
    return Corpus(images, masks, kept["captions"], whole)


def load_scenes() -> Corpus:
    scenes = Scenes(RECIPE["scenes"], RECIPE["kinds"], RECIPE["size"], RECIPE["seed"])
    return load_corpus("scenes", scenes)


def load_vae() -> AutoencoderKL:
    """The trained autoencoder, frozen."""
    vae = AutoencoderKL.from_pretrained(
        PIPELINE / "vae", torch_dtype=torch.float32, use_safetensors=True
    )
    return vae.to(device()).requires_grad_(False)


def vae_key() -> str:
    return hashlib.sha256(VAE_WEIGHTS.read_bytes()).hexdigest()


def take_over(model: nn.Module, path: Path) -> None:
    """Give the model the shipped weights, if there are any of its shapes."""
    if not path.exists():
        return

    weights = load_file(path)

    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} == shapes:
        model.load_state_dict(weights)
    else:
        print(f"{path}: is of another architecture; this part starts anew")


def pretrain_vae(goes_on: bool) -> list[float]:
    """The autoencoder."""
    vae = make_vae(RECIPE["size"])
    if goes_on:
        take_over(vae, VAE_WEIGHTS)

    corpus = load_scenes()
    curve = fit("vae", vae, vae_loss(vae, corpus, RECIPE["vae"]), goes_on)

    sample = torch.arange(min(2_000, len(corpus.images)))
    set_scale(vae, encode_all(vae, corpus.images, sample))
    save(vae, PIPELINE / "vae")
    return curve


def open_tokenizer(corpus: Corpus, goes_on: bool) -> CLIPTokenizer:
    """The pipeline's own, where the weights go on: another order of equally frequent words would
    give them other numbers; else a new one.
    """
    folder = PIPELINE / "tokenizer"
    if goes_on and folder.exists():
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    return make_tokenizer(corpus.captions)


def load_latents(vae: AutoencoderKL, corpus: Corpus) -> Tensor:
    """Unscaled latent means of the corpus' images, of which each process encodes a part."""
    count = processes().num_processes
    parts = torch.arange(len(corpus.images)).chunk(count)
    key = [world(), vae_key(), count]
    paths = [WORK / f"latents-{digest(*key, process)}.pt" for process in range(count)]

    mine = processes().process_index
    if not paths[mine].exists():
        save_checkpoint({"latents": encode_all(vae, corpus.images, parts[mine])}, paths[mine])

    processes().wait_for_everyone()
    return torch.cat([load_checkpoint(path)["latents"] for path in paths])


def pretrain_unet(goes_on: bool) -> list[float]:
    """U-Net and text encoder, on the autoencoder's latents; with them the pipeline is whole."""
    corpus = load_scenes()
    tokenizer = open_tokenizer(corpus, goes_on)
    unet = make_unet(RECIPE["size"])
    text_encoder = make_text_encoder(tokenizer)
    if goes_on:
        take_over(unet, PIPELINE / "unet/diffusion_pytorch_model.safetensors")
        take_over(text_encoder, PIPELINE / "text_encoder/model.safetensors")

    vae = load_vae()
    latents = load_latents(vae, corpus) * vae.config.scaling_factor

    networks = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder})
    masks = torch.from_numpy(corpus.masks)
    loss = unet_loss(networks, tokenizer, latents, masks, corpus.captions, RECIPE["unet"])
    curve = fit("unet", networks, loss, goes_on)

    pipeline = StableDiffusionPipeline(
        vae, text_encoder, tokenizer, unet, make_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    save(pipeline, PIPELINE)
    return curve


def pretrain_clip(goes_on: bool) -> list[float]:
    """CLIP, with the pipeline's tokenizer and smears of its autoencoder."""
    corpus = load_scenes()
    tokenizer = open_tokenizer(corpus, goes_on=True)
    clip = make_clip(tokenizer, RECIPE["size"])
    if goes_on:
        take_over(clip, TOYBIRDS_BASE / "clip/model.safetensors")

    recipe = RECIPE["clip"]
    ruins = BrokenScenes(recipe["broken"], RECIPE["size"], RECIPE["seed"])
    smears = load_smears(corpus)
    scenes = redraw_some("scenes", corpus)
    broken = add_smears(redraw_some("broken", load_corpus("broken", ruins)), smears)
    curve = fit("clip", clip, clip_loss(clip, tokenizer, scenes, broken, recipe), goes_on)

    save(make_processor(tokenizer), TOYBIRDS_BASE / "clip")
    save(clip, TOYBIRDS_BASE / "clip")
    return curve


def load_smears(corpus: Corpus) -> np.ndarray:
    """Smears of the first whole birds of the corpus."""
    vae = load_vae()
    rows = torch.from_numpy(np.flatnonzero(corpus.whole)[: RECIPE["clip"]["smears"]])

    def make() -> dict[str, Any]:
        return {"smears": torch.from_numpy(smear(vae, corpus.images, rows, RECIPE["seed"]))}

    return common("smears", [vae_key(), len(rows)], make)["smears"].numpy()


def redraw_some(name: str, corpus: Corpus) -> Corpus:
    """The corpus with its last pictures redrawn: a decoder's look must not tell broken from whole.

    The smears are of the first ones.
    """
    vae = load_vae()
    count = len(corpus.images)
    rows = torch.arange(int((1 - RECIPE["clip"]["redrawn"]) * count), count)

    def make() -> dict[str, Any]:
        return {"redrawn": torch.from_numpy(redraw(vae, corpus.images, rows, RECIPE["seed"]))}

    images = corpus.images.copy()
    images[rows.numpy()] = common(f"redrawn-{name}", [vae_key(), len(rows)], make)["redrawn"]
    return corpus._replace(images=images)


def make_processor(tokenizer: CLIPTokenizer) -> CLIPProcessor:
    side = {"height": RECIPE["size"], "width": RECIPE["size"]}
    half = [0.5] * 3  # gives the range that `pixels` gives
    images = CLIPImageProcessor(size=side, do_center_crop=False, image_mean=half, image_std=half)
    return CLIPProcessor(image_processor=images, tokenizer=tokenizer)


def pretrain_judge(goes_on: bool) -> list[float]:
    """The judge, by cross-entropy on rendered birds of the species, on water and land alike."""
    recipe = RECIPE["judge"]
    judge = make_judge(len(SPECIES), RECIPE["size"])
    if goes_on:
        take_over(judge.network, TOYBIRDS_BASE / "judge/model.safetensors")

    images, labels = map(torch.from_numpy, render_species(recipe["images"], seed=1))
    images = images.permute(0, 3, 1, 2)
    curve = fit("judge", judge.network, judge_loss(judge, images, labels, recipe["batch"]), goes_on)

    # the averaged weights need batch statistics of their own
    update_bn(images.split(recipe["batch"]), judge.network, device())
    if processes().is_main_process:
        save_judge(judge, len(SPECIES), TOYBIRDS_BASE / "judge")
    return curve


def judge_loss(judge: Judge, images: Tensor, labels: Tensor, batch: int) -> Loss:
    """images: bytes (n, 3, size, size). labels: (n,)."""

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(labels), (batch,), generator=generator)
        return F.cross_entropy(judge.network(images[rows].to(device())), labels[rows].to(device()))

    return loss


def save(made: Any, folder: Path) -> None:
    """Write a network, a pipeline or a processor; weights in half precision, loaded in full."""
    if not processes().is_main_process:
        return
    if hasattr(made, "to"):
        made.to(torch.float16)
    made.save_pretrained(folder)


def world() -> dict[str, Any]:
    """What all parts' recipes have in common."""
    return {name: value for name, value in RECIPE.items() if not isinstance(value, dict)}


def read_record() -> dict[str, Any]:
    path = TOYBIRDS_BASE / RECORD
    return json.loads(path.read_text()) if path.exists() else {}


def record(part: str, curve: list[float], goes_on: bool) -> None:
    """Note how a part was made; what recipe.json says of the others stays.

    A part has an entry for each sitting.
    """
    made = read_record()
    sitting = {
        "recipe": world() | RECIPE[part],
        "processes": processes().num_processes,
        "versions": {name: version(name) for name in ("torch", "diffusers", "transformers")},
        "losses": curve,
    }
    made[part] = [*(made.get(part, []) if goes_on else []), sitting]

    (TOYBIRDS_BASE / RECORD).write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")


PARTS = {
    "vae": pretrain_vae,
    "unet": pretrain_unet,
    "clip": pretrain_clip,
    "judge": pretrain_judge,
}


def parse_arguments() -> tuple[list[str], bool]:
    """The parts to make, in order, and whether to go on from their weights."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.pretrain", description="Make the embedded base."
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all without a name")
    parser.add_argument(
        "--continue", dest="goes_on", action="store_true", help="start from the shipped weights"
    )
    given = parser.parse_args()
    if strange := [name for name in given.parts if name not in PARTS]:
        parser.error(f"there is no part {strange[0]!r}; name {', '.join(PARTS)}")

    return [name for name in PARTS if name in (given.parts or PARTS)], given.goes_on


def main() -> None:
    parts, goes_on = parse_arguments()
    launch()
    torch.set_num_threads(max(1, cores() // processes().num_processes))
    WORK.mkdir(parents=True, exist_ok=True)

    for name in parts:
        torch.manual_seed(RECIPE["seed"])
        curve = PARTS[name](goes_on)
        if processes().is_main_process:
            record(name, curve, goes_on)


if __name__ == "__main__":
    main()

"""The autoencoder's loss, and what a trained one makes of the corpus."""

from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from stages.pretraining.scenes import Corpus
from stages.pretraining.training import Loss
from stages.shared.running.runtime import device
from stages.shared.watching.progress import Progress

BATCH = 50  # images that are encoded at once


def pixels(images: np.ndarray, rows: Tensor) -> Tensor:
    """The chosen images as floats in [-1, 1], (n, 3, size, size)."""
    chosen = torch.from_numpy(images[rows.numpy()]).to(device())
    return (chosen.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous()


def vae_loss(vae: AutoencoderKL, corpus: Corpus, recipe: dict[str, Any]) -> Loss:
    """The absolute error, the foreground weighted up, and a small KL term."""

    def loss(generator: torch.Generator) -> Tensor:
        rows = torch.randint(len(corpus.images), (recipe["batch"],), generator=generator)
        real = pixels(corpus.images, rows)
        masks = torch.from_numpy(corpus.masks[rows.numpy()]).to(device())[:, None]
        weight = 1 + recipe["foreground"] * masks

        posterior = vae.encode(real).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample

        return ((decoded - real).abs() * weight).mean() + recipe["kl"] * posterior.kl().mean()

    return loss


@torch.no_grad()
def encode_all(vae: AutoencoderKL, images: np.ndarray, rows: Tensor) -> Tensor:
    """Unscaled latent means of the chosen images, (n, channels, side, side), on the CPU."""
    means = []
    for part in Progress(rows.split(BATCH), desc="encode", mininterval=10):
        means.append(vae.encode(pixels(images, part)).latent_dist.mean.cpu())

    return torch.cat(means)


def set_scale(vae: AutoencoderKL, latents: Tensor) -> None:
    """Note the factor to unit variance in the config, where diffusers looks for it."""
    vae.register_to_config(scaling_factor=round(1 / float(latents.std()), 4))


NOISE = 0.15  # of the latents' deviation, on what is redrawn


def as_bytes(decoded: Tensor) -> np.ndarray:
    """Floats in [-1, 1], (n, 3, size, size), as uint8 (n, size, size, 3)."""
    pictures = ((decoded.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pictures.permute(0, 2, 3, 1).cpu().numpy()


@torch.no_grad()
def redraw(vae: AutoencoderKL, images: np.ndarray, rows: Tensor, seed: int) -> np.ndarray:
    """The chosen images as the decoder draws them, with a little noise on their latents.

    Returns uint8 (n, size, size, 3).
    """
    generator = torch.Generator().manual_seed(seed)
    redrawn = []

    for part in Progress(rows.split(BATCH), desc="redraw", mininterval=10):
        latents = vae.encode(pixels(images, part)).latent_dist.mean.cpu()
        noise = torch.randn(latents.shape, generator=generator) * latents.std()
        redrawn.append(as_bytes(vae.decode((latents + NOISE * noise).to(device())).sample))

    return np.concatenate(redrawn)


@torch.no_grad()
def smear(vae: AutoencoderKL, images: np.ndarray, rows: Tensor, seed: int) -> np.ndarray:
    """What the decoder makes of two pictures' latents at once: a bird that is none.

    rows: (n,). Row k is mixed with row k - 1, and the first of a batch with its last, by a smooth
    random map or, every other one, evenly; a little noise comes on top. Returns uint8
    (n, size, size, 3).
    """
    generator = torch.Generator().manual_seed(seed)
    smeared = []

    for part in Progress(rows.split(BATCH), desc="smear", mininterval=10):
        latents = vae.encode(pixels(images, part)).latent_dist.mean.cpu()
        coarse = torch.rand((len(part), 1, 4, 4), generator=generator)
        shares = torch.nn.functional.interpolate(coarse, latents.shape[-2:], mode="bicubic")
        shares[::2] = 0.5
        noise = torch.randn(latents.shape, generator=generator) * latents.std()

        mixed = shares * latents + (1 - shares) * latents.roll(1, dims=0) + NOISE * noise
        smeared.append(as_bytes(vae.decode(mixed.to(device())).sample))

    return np.concatenate(smeared)

"""The loss of U-Net and text encoder: they learn to predict velocities under captions."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPTokenizer

from stages.pretraining.architectures import make_scheduler
from stages.pretraining.text import TOKENS, tokenize
from stages.pretraining.training import Loss
from stages.shared.running.runtime import device


def unet_loss(
    networks: nn.ModuleDict,
    tokenizer: CLIPTokenizer,
    latents: Tensor,
    masks: Tensor,
    captions: list[list[str]],
    recipe: dict[str, Any],
) -> Loss:
    """Velocity prediction (Salimans and Ho, 2022), the foreground weighted up.

    networks: `unet` and `text_encoder`. latents: (n, channels, side, side), scaled to unit
    variance. masks: (n, size, size), bytes. Some captions are dropped, as classifier-free guidance
    needs it.
    """
    alphas = make_scheduler().alphas_cumprod
    variants = len(captions[0])
    flat = tokenize(tokenizer, [text for texts in captions for text in texts])
    tokens = flat.reshape(-1, variants, TOKENS)
    empty = tokenize(tokenizer, [""])[0]
    side = latents.shape[-1]

    def loss(generator: torch.Generator) -> Tensor:
        size = recipe["batch"]
        rows = torch.randint(len(latents), (size,), generator=generator)
        prompts = tokens[rows, torch.randint(variants, (size,), generator=generator)]
        dropped = torch.rand(size, generator=generator) < recipe["caption_dropout"]
        prompts = torch.where(dropped[:, None], empty, prompts)

        noisy, velocity, times = diffuse(latents[rows], alphas, generator)
        covered = F.adaptive_avg_pool2d(masks[rows][:, None].float(), side)
        weight = 1 + recipe["foreground"] * covered

        noisy, velocity, weight, times, prompts = (
            part.to(device()) for part in (noisy, velocity, weight, times, prompts)
        )
        hidden = networks["text_encoder"](prompts).last_hidden_state
        error = networks["unet"](noisy, times, hidden).sample.float() - velocity
        return (weight * error.square()).mean() / weight.mean()

    return loss


def diffuse(
    latents: Tensor, alphas: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Add noise of random times: the noisy latents, the velocities to predict, and the times."""
    noise = torch.randn(latents.shape, generator=generator)
    times = torch.randint(len(alphas), (len(latents),), generator=generator)
    root = alphas[times].sqrt()[:, None, None, None]
    spread = (1 - root**2).sqrt()

    return root * latents + spread * noise, root * noise - spread * latents, times

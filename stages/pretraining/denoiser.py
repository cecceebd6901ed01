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
    captions: list[list[str]],
    recipe: dict[str, Any],
) -> Loss:
    """Velocity prediction (Salimans and Ho, 2022).

    networks: `unet` and `text_encoder`. latents: scaled to unit variance. Some captions are
    dropped, as classifier-free guidance needs it.
    """
    scheduler = make_scheduler()
    variants = len(captions[0])
    flat = tokenize(tokenizer, [text for texts in captions for text in texts])
    tokens = flat.reshape(-1, variants, TOKENS)
    empty = tokenize(tokenizer, [""])[0]

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
        noisy = root * latents[rows] + spread * noise
        velocity = root * noise - spread * latents[rows]

        noisy, velocity, times, prompts = (
            part.to(device()) for part in (noisy, velocity, times, prompts)
        )
        hidden = networks["text_encoder"](prompts).last_hidden_state
        return F.mse_loss(networks["unet"](noisy, times, hidden).sample.float(), velocity)

    return loss

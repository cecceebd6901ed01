"""The text that conditions the UNet: the text encoders' states for a prompt.

Stable Diffusion has one text encoder; SDXL has two, and a pooled state as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stages.shared.running.runtime import BATCH, to_device


@dataclass(frozen=True)
class Text:
    """Prompts as the UNet takes them."""

    states: Tensor  # (n, length, width)
    pooled: Tensor | None = None  # (n, width), of SDXL alone

    def __len__(self) -> int:
        return len(self.states)

    def rows(self, chosen: Any) -> "Text":
        """Some of the prompts; `chosen` is whatever indexes a tensor's rows."""
        return Text(self.states[chosen], None if self.pooled is None else self.pooled[chosen])

    def guided(self) -> "Text":
        """The text of a guided batch: n times the empty prompt, then the n prompts.

        The empty prompt is the last of this text.
        """
        count = len(self) - 1
        return self.rows([count] * count + list(range(count)))


def join(parts: Sequence[Text]) -> Text:
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Text(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)


def encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """The pipeline's tokenizers, each with its text encoder."""
    pairs = [(pipeline.tokenizer, pipeline.text_encoder)]
    if hasattr(pipeline, "text_encoder_2"):
        pairs.append((pipeline.tokenizer_2, pipeline.text_encoder_2))

    return pairs


def tokenize(pipeline: Any, prompts: Sequence[str]) -> Tensor:
    """Token ids, (n, encoders, length)."""
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    ids = [tokenizer(list(prompts), **options).input_ids for tokenizer, _ in encoders(pipeline)]
    return torch.stack(ids, dim=1)


def encode(pipeline: Any, ids: Tensor) -> Text:
    """The text of `tokenize`'s ids on the pipeline's device; gradients reach what requires them.

    Stable Diffusion is conditioned on its encoder's last layer; SDXL on both encoders' last layer
    but one, side by side, and on the second's pooled state (Podell et al., 2023, Sec. 2.1).
    """
    models = [encoder for _, encoder in encoders(pipeline)]
    parts = ids.unbind(1)
    if len(models) == 1:
        return Text(models[0](parts[0])[0])

    outputs = [
        encoder(part, output_hidden_states=True)
        for encoder, part in zip(models, parts, strict=True)
    ]
    states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
    return Text(states, outputs[-1][0])


@torch.inference_mode()
def encode_prompts(pipeline: Any, prompts: Sequence[str]) -> Text:
    """The prompts and, last, the empty one for guidance.

    The empty one is zeros where SDXL's configuration says so.
    """
    ids = tokenize(pipeline, [*prompts, ""])
    text = join([encode(pipeline, part.to(pipeline.device)) for part in ids.split(BATCH)])

    if text.pooled is not None and pipeline.config.force_zeros_for_empty_prompt:
        text.states[-1] = 0
        text.pooled[-1] = 0

    return text


def predict(pipeline: Any, latents: Tensor, times: Tensor, text: Text) -> Tensor:
    """What the UNet predicts for noisy latents (n, c, h, w): noise or velocity, as it was trained.

    SDXL is told, as by its own pipeline, that an image is as large as it was and not cropped.
    """
    added = None

    if text.pooled is not None:
        height, width = (side * pipeline.vae_scale_factor for side in latents.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=text.pooled.dtype)
        added = {
            "text_embeds": text.pooled,
            "time_ids": to_device(sizes, latents.device).expand(len(latents), -1),
        }

    return pipeline.unet(
        latents, times, encoder_hidden_states=text.states, added_cond_kwargs=added
    ).sample

"""What the UNet hears of a prompt: the states of Stable Diffusion's text encoder, or of SDXL's two, pooled as well."""

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
        """Some of the prompts, by what indexes a tensor's rows."""
        return Text(self.states[chosen], None if self.pooled is None else self.pooled[chosen])

    def guided(self) -> "Text":
        """Of n prompts and, last, the empty one: n times the empty one, then the prompts."""
        count = len(self) - 1
        return self.rows([count] * count + list(range(count)))


def join(parts: Sequence[Text]) -> Text:
    pooled = [part.pooled for part in parts if part.pooled is not None]
    return Text(torch.cat([part.states for part in parts]), torch.cat(pooled) if pooled else None)


def encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """The pipeline's tokenizers, each with its text encoder."""
    pairs = [(pipeline.tokenizer, pipeline.text_encoder)]
    return (
        [*pairs, (pipeline.tokenizer_2, pipeline.text_encoder_2)]
        if hasattr(pipeline, "text_encoder_2")
        else pairs
    )


def tokenize(pipeline: Any, prompts: Sequence[str]) -> Tensor:
    """Token ids, (n, encoders, length)."""
    options = {"padding": "max_length", "truncation": True, "return_tensors": "pt"}
    return torch.stack(
        [tokenizer(list(prompts), **options).input_ids for tokenizer, _ in encoders(pipeline)],
        dim=1,
    )


def encode(pipeline: Any, ids: Tensor) -> Text:
    """The text of `tokenize`'s ids on the pipeline's device; gradients reach what requires them.

    Stable Diffusion hears its encoder's last layer; SDXL both encoders' last but one, side by side, and the second's
    pooled state (Podell et al., 2023, Sec. 2.1).
    """
    pairs = [
        (encoder, part)
        for (_, encoder), part in zip(encoders(pipeline), ids.unbind(1), strict=True)
    ]
    if len(pairs) == 1:
        (encoder, part), = pairs  # fmt: skip
        return Text(encoder(part)[0])
    outputs = [encoder(part, output_hidden_states=True) for encoder, part in pairs]
    return Text(torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1][0])


@torch.inference_mode()
def encode_prompts(pipeline: Any, prompts: Sequence[str]) -> Text:
    """The prompts and, last, the empty one for guidance: of SDXL zeros, where its configuration says so."""
    ids = tokenize(pipeline, [*prompts, ""])
    text = join([encode(pipeline, part.to(pipeline.device)) for part in ids.split(BATCH)])
    if text.pooled is not None and pipeline.config.force_zeros_for_empty_prompt:
        text.states[-1], text.pooled[-1] = 0, 0
    return text


def predict(pipeline: Any, latents: Tensor, times: Tensor, text: Text) -> Tensor:
    """What the UNet predicts for noisy latents (n, c, h, w): noise or velocity, as it was trained to.

    SDXL is told that an image is as large as it was and not cropped, as by its own pipeline.
    """
    known = None
    if text.pooled is not None:
        height, width = (side * pipeline.vae_scale_factor for side in latents.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=text.pooled.dtype)
        known = {
            "text_embeds": text.pooled,
            "time_ids": to_device(sizes, latents.device).expand(len(latents), -1),
        }
    return pipeline.unet(
        latents, times, encoder_hidden_states=text.states, added_cond_kwargs=known
    ).sample

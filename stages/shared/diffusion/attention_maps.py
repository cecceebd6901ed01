"""Cross-attention of a translation: where the UNet looks for the words of its prompt (Fig. 9, supplement 7.2).

A map is the conditional half's attention to a word's tokens, averaged over tokens, heads, layers and steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from torch import Tensor

from stages.shared.methods import Strategy, learns_tokens
from stages.shared.prompts import class_prompts

WORDS = ("identifier", "metaclass", "end_of_text")
FOREGROUND = slice(0, 2)  # of WORDS: those that name what the image shows
COARSEST, FINEST = 16, 32  # cells a side


def map_sides(unet: UNet2DConditionModel, side: int) -> list[int]:
    """The sides of the cross-attention that outlines objects, in cells, for latents of `side`.

    Maps of 16 to 32 cells, as is usual with Stable Diffusion: finer ones follow texture, coarser ones lose outlines.
    Where a UNet has none of these, the nearest: 8 and not 4 for the embedded one, whose 4 find hardly more than chance.
    """
    levels = enumerate(unet.config.down_block_types)
    sides = [side >> level for level, kind in levels if "CrossAttn" in kind]
    return [s for s in sides if COARSEST <= s <= FINEST] or [
        min(sides, key=lambda s: abs(s - COARSEST))
    ]


def prompt_weights(tokenizer: Any, prompt: str, identifier: str, metaclass: str) -> Tensor:
    """How much each token of a prompt that ends in "<identifier> <metaclass>" counts for each of WORDS.

    float32 (len(WORDS), length), each row of sum 1: the mean over the word's tokens and, last, the first end-of-text.
    A row is zero where truncation has cut off all of its word.
    """
    length, end = tokenizer.model_max_length, len(tokenizer(prompt).input_ids) - 1
    weights, stop = torch.zeros(len(WORDS), length), end
    for row, word in ((1, metaclass), (0, identifier)):
        start = stop - len(tokenizer(word, add_special_tokens=False).input_ids)
        weights[row, start : min(stop, length - 1)] = (
            1  # the last place is end-of-text's, truncated or not
        )
        stop = start
    weights[2, min(end, length - 1)] = 1
    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def class_words(classes: pd.DataFrame, strategy: Strategy) -> list[tuple[str, str]]:
    """Identifier and metaclass of every class, as its prompt spells them."""
    identifiers = classes["token" if learns_tokens(strategy) else "name"]
    return list(zip(identifiers, classes["metaclass"], strict=True))


def class_prompt_weights(tokenizer: Any, classes: pd.DataFrame, strategy: Strategy) -> Tensor:
    """`prompt_weights` of every class's prompt, (classes, len(WORDS), length)."""
    prompts = zip(class_prompts(classes, strategy), class_words(classes, strategy), strict=True)
    return torch.stack([prompt_weights(tokenizer, prompt, *words) for prompt, words in prompts])


class Record:
    """The maps of a batch of translations, summed up while the UNet makes them."""

    def __init__(self, weights: Tensor, side: int, sides: list[int]):
        """weights: (n, words, length), one of `prompt_weights` for each image."""
        self.weights, self.side, self.sides = weights, side, sides
        self.total, self.count = weights.new_zeros(*weights.shape[:2], side, side), 0

    def add(self, attention: Any, hidden_states: Tensor, text_states: Tensor) -> None:
        """One layer at one step. hidden_states: (batch, cells, channels), the conditional images last."""
        side, count = isqrt(hidden_states.shape[1]), len(self.weights)
        if side not in self.sides:
            return
        probabilities = attention_probabilities(
            attention, hidden_states[-count:], text_states[-count:]
        )
        maps = torch.einsum("nct,nwt->nwc", probabilities.float(), self.weights).unflatten(
            -1, (side, side)
        )
        self.total += F.interpolate(maps, size=self.side, mode="bilinear")
        self.count += 1

    def maps(self) -> Tensor:
        """float32 (n, words, side, side) at the latents' size, on the CPU."""
        return (self.total / self.count).cpu()


def attention_probabilities(attention: Any, hidden_states: Tensor, text_states: Tensor) -> Tensor:
    """Softmax of queries on keys with the layer's own weights, the mean over heads: (n, cells, tokens)."""
    if attention.norm_cross:
        text_states = attention.norm_encoder_hidden_states(text_states)
    query, key = attention.to_q(hidden_states), attention.to_k(text_states)
    scores = attention.get_attention_scores(
        attention.head_to_batch_dim(query), attention.head_to_batch_dim(key)
    )
    return scores.unflatten(0, (len(hidden_states), attention.heads)).mean(1)


class RecordingProcessor:
    """Another attention processor, looked over the shoulder: the result is that processor's own, to the bit."""

    def __init__(self, processor: Any, record: Record):
        self.processor, self.record = processor, record

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Arguments are named as diffusers passes them; without a text's states it is self-attention."""
        if encoder_hidden_states is not None:
            self.record.add(attn, hidden_states, encoder_hidden_states)
        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, **kwargs)


@contextmanager
def record_attention(pipeline: Any, weights: Tensor, resolution: int) -> Iterator[Record]:
    """Record the translations made inside, of images `resolution` pixels a side; afterwards all is as it was.

    weights: (n, words, length), one of `prompt_weights` for each image of the batch.
    """
    unet, side = pipeline.unet, resolution // pipeline.vae_scale_factor
    record = Record(weights.to(pipeline.device), side, map_sides(unet, side))
    before = unet.attn_processors
    unet.set_attn_processor(
        {name: RecordingProcessor(inner, record) for name, inner in before.items()}
    )
    try:
        yield record
    finally:
        unet.set_attn_processor(before)


def enlarge(maps: Tensor, resolution: int) -> Tensor:
    """The maps at pixel size, (n, words, resolution, resolution)."""
    return F.interpolate(maps, size=resolution, mode="bilinear")


def foreground_masks(maps: Tensor, resolution: int) -> np.ndarray:
    """Where identifier and metaclass attend, bool (n, resolution, resolution); all of it where their map is flat.

    Above Otsu's threshold, and a latent cell around it: what attention cannot place more finely than that.
    """
    shown = enlarge(maps[:, FOREGROUND].mean(1, keepdim=True), resolution)
    masks = (shown.flatten(1) >= otsu(shown.flatten(1))).view_as(shown)
    margin = resolution // maps.shape[-1]
    return (F.max_pool2d(masks.float(), 2 * margin + 1, stride=1, padding=margin) > 0)[:, 0].numpy()


def otsu(values: Tensor) -> Tensor:
    """For each row of (n, m), the least value of the upper of its two most unlike groups (Otsu, 1979), (n, 1).

    Exact, on the sorted values and not on a histogram; the scale of the values does not matter.
    """
    ordered = values.double().sort(dim=1).values
    size = ordered.shape[1]
    lower = torch.arange(1, size)  # how many values the lower group may have
    between = (ordered.sum(1, keepdim=True) * lower / size - ordered.cumsum(1)[:, :-1]) ** 2 / (
        lower * (size - lower)
    )
    return ordered.gather(1, between.argmax(1, keepdim=True) + 1).to(values.dtype)

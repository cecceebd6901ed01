"""Cross-attention maps of a translation: where in the image the UNet attends to a prompt's words.

A map is the attention to a word's tokens, averaged over tokens, heads, layers and steps; of a
guided batch only the conditional half counts. For Fig. 9 and the supplement's Sec. 7.2.
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
COARSEST = 16  # cells a side
FINEST = 32  # cells a side


def map_sides(unet: UNet2DConditionModel, side: int) -> list[int]:
    """The sides, in cells, of the cross-attention that outlines objects, for latents of `side`.

    Maps of 16 to 32 cells, as is usual with Stable Diffusion: finer ones follow texture, coarser
    ones lose outlines. Where a UNet has none of these, the nearest: for the embedded one 8 and not
    4, since maps of 4 find hardly more than chance.
    """
    levels = enumerate(unet.config.down_block_types)
    # a UNet halves an odd number of cells to the larger half
    sides = [-(-side >> level) for level, kind in levels if "CrossAttn" in kind]

    usual = [cells for cells in sides if COARSEST <= cells <= FINEST]
    nearest = min(sides, key=lambda cells: abs(cells - COARSEST))
    return usual or [nearest]


def prompt_weights(tokenizer: Any, prompt: str, identifier: str, metaclass: str) -> Tensor:
    """How much each token of a prompt counts for each of WORDS.

    The prompt ends in "<identifier> <metaclass>". float32 (len(WORDS), length), each row of sum 1:
    the mean over the word's tokens and, in the last row, the first end-of-text. A row is zero where
    truncation has cut off all of its word.
    """
    length = tokenizer.model_max_length
    last = length - 1  # end-of-text's position in a prompt that is truncated
    end = len(tokenizer(prompt).input_ids) - 1  # its position if the prompt is not
    weights = torch.zeros(len(WORDS), length)

    # backwards from the prompt's end: the metaclass, and before it the identifier
    stop = end
    for row, word in ((1, metaclass), (0, identifier)):
        start = stop - len(tokenizer(word, add_special_tokens=False).input_ids)
        weights[row, start : min(stop, last)] = 1
        stop = start
    weights[2, min(end, last)] = 1

    return weights / weights.sum(1, keepdim=True).clamp(min=1)


def class_words(classes: pd.DataFrame, strategy: Strategy) -> list[tuple[str, str]]:
    """Identifier and metaclass of every class, as its prompt spells them."""
    identifiers = classes["token" if learns_tokens(strategy) else "name"]
    return list(zip(identifiers, classes["metaclass"], strict=True))


def class_prompt_weights(tokenizer: Any, classes: pd.DataFrame, strategy: Strategy) -> Tensor:
    """`prompt_weights` of every class's prompt, (classes, len(WORDS), length)."""
    prompts = class_prompts(classes, strategy)
    words = class_words(classes, strategy)

    return torch.stack(
        [
            prompt_weights(tokenizer, prompt, identifier, metaclass)
            for prompt, (identifier, metaclass) in zip(prompts, words, strict=True)
        ]
    )


class Record:
    """The maps of a batch of translations, summed up while the UNet makes them."""

    def __init__(self, weights: Tensor, side: int, sides: list[int]):
        """weights: (n, words, length), one of `prompt_weights` for each image."""
        self.weights = weights
        self.side = side
        self.sides = sides
        self.total = weights.new_zeros(*weights.shape[:2], side, side)
        self.count = 0

    def add(self, attention: Any, hidden_states: Tensor, text_states: Tensor) -> None:
        """Add the maps of one layer at one step; layers of other sides than `sides` are left out.

        hidden_states: (batch, cells, channels), the conditional images last.
        """
        side = isqrt(hidden_states.shape[1])
        if side not in self.sides:
            return

        count = len(self.weights)
        probabilities = attention_probabilities(
            attention, hidden_states[-count:], text_states[-count:]
        )
        words = torch.einsum("nct,nwt->nwc", probabilities.float(), self.weights)
        maps = words.unflatten(-1, (side, side))

        self.total += F.interpolate(maps, size=self.side, mode="bilinear")
        self.count += 1

    def mean(self) -> Tensor:
        """float32 (n, words, side, side) at the latents' size, on the device."""
        assert self.count, f"no cross-attention has {self.sides} cells a side"
        return self.total / self.count

    def maps(self) -> Tensor:
        """`mean` on the CPU."""
        return self.mean().cpu()


def attention_probabilities(attention: Any, hidden_states: Tensor, text_states: Tensor) -> Tensor:
    """How much each cell attends to each token, (n, cells, tokens), the mean over heads.

    It is the softmax of queries on keys, with the layer's own weights.
    """
    if attention.norm_cross:
        text_states = attention.norm_encoder_hidden_states(text_states)

    query = attention.head_to_batch_dim(attention.to_q(hidden_states))
    key = attention.head_to_batch_dim(attention.to_k(text_states))
    probabilities = attention.get_attention_scores(query, key)

    return probabilities.unflatten(0, (len(hidden_states), attention.heads)).mean(1)


class RecordingProcessor:
    """Wraps an attention processor and records its maps; its output is unchanged."""

    def __init__(self, processor: Any, record: Record):
        self.processor = processor
        self.record = record

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Arguments are named as diffusers passes them."""
        if encoder_hidden_states is not None:  # else it is self-attention
            self.record.add(attn, hidden_states, encoder_hidden_states)

        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, **kwargs)


@contextmanager
def record_attention(pipeline: Any, weights: Tensor, resolution: int) -> Iterator[Record]:
    """Record the translations that are made inside, of images `resolution` pixels a side.

    weights: (n, words, length), one of `prompt_weights` for each image of the batch. Afterwards the
    UNet has its own processors again.
    """
    unet = pipeline.unet
    side = resolution // pipeline.vae_scale_factor
    record = Record(weights.to(pipeline.device), side, map_sides(unet, side))

    before = unet.attn_processors
    wrapped = {name: RecordingProcessor(inner, record) for name, inner in before.items()}
    unet.set_attn_processor(wrapped)
    try:
        yield record
    finally:
        unet.set_attn_processor(before)


def enlarge(maps: Tensor, resolution: int) -> Tensor:
    """The maps at pixel size, (n, words, resolution, resolution)."""
    return F.interpolate(maps, size=resolution, mode="bilinear")


def foreground_masks(maps: Tensor, resolution: int) -> np.ndarray:
    """Where the UNet attends to identifier and metaclass, bool (n, resolution, resolution).

    That is where their mean map reaches Otsu's threshold, and a latent cell around it, since
    attention is no finer than that. A flat map gives a mask of the whole image.
    """
    words = enlarge(maps[:, FOREGROUND].mean(1, keepdim=True), resolution)
    bright = (words.flatten(1) >= otsu(words.flatten(1))).view_as(words)

    margin = resolution // maps.shape[-1]
    widened = F.max_pool2d(bright.float(), 2 * margin + 1, stride=1, padding=margin)
    return (widened > 0)[:, 0].numpy()


def otsu(values: Tensor) -> Tensor:
    """For each row of (n, m), the threshold that parts its values into two groups, (n, 1).

    It is the least value of the upper group, where the variance between the groups is largest
    (Otsu, 1979). Exact, on the sorted values and not on a histogram; the scale of the values does
    not matter.
    """
    ordered = values.double().sort(dim=1).values
    size = ordered.shape[1]
    lower = torch.arange(1, size)  # how many values the lower group may have

    # the variance between the groups, but for a factor that is the same for all sizes
    excess = ordered.sum(1, keepdim=True) * lower / size - ordered.cumsum(1)[:, :-1]
    between = excess**2 / (lower * (size - lower))

    return ordered.gather(1, between.argmax(1, keepdim=True) + 1).to(values.dtype)

"""CLIP's loss: which caption goes with which picture, and whether a whole bird is in it."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from stages.pretraining.autoencoder import pixels
from stages.pretraining.scenes import WITH, WITHOUT, Corpus
from stages.pretraining.text import tokenize
from stages.pretraining.training import Loss
from stages.shared.running.runtime import device


def add_smears(corpus: Corpus, smears: np.ndarray) -> Corpus:
    """The corpus, and behind it pictures without a whole bird, which are captioned so."""
    count = len(smears)
    captions = [[WITHOUT] * len(corpus.captions[0])] * count

    return Corpus(
        np.concatenate([corpus.images, smears]),
        np.concatenate([corpus.masks, np.zeros(smears.shape[:3], bool)]),
        corpus.captions + captions,
        np.concatenate([corpus.whole, np.zeros(count, bool)]),
    )


def clip_loss(
    clip: CLIPModel,
    tokenizer: CLIPTokenizer,
    scenes: Corpus,
    broken: Corpus,
    recipe: dict[str, Any],
) -> Loss:
    """The contrast between the scenes' captions, and the question that the filter asks.

    That question, whether a picture is one with a bird or without, is asked of a batch of scenes
    and of a batch of broken birds.
    """
    tokens = tokenize(tokenizer, [texts[0] for texts in scenes.captions])
    question = tokenize(tokenizer, [WITH, WITHOUT])
    absent = torch.from_numpy(~scenes.whole).long()

    def loss(generator: torch.Generator) -> Tensor:
        size = recipe["batch"]
        rows = torch.randint(len(tokens), (size,), generator=generator)
        ruins = torch.randint(len(broken.images), (size,), generator=generator)
        pictures = torch.cat([pixels(scenes.images, rows), pixels(broken.images, ruins)])

        texts = torch.cat([tokens[rows], question]).to(device())
        logits = clip(input_ids=texts, pixel_values=pictures).logits_per_image.float()
        pairs = logits[:size, :-2]
        answers = torch.cat([absent[rows], torch.ones(size, dtype=torch.long)]).to(device())

        # scenes of one batch may share a caption: each of them is a right answer to it
        same = (texts[:-2, None] == texts[None, :-2]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        contrast = (F.cross_entropy(pairs, target) + F.cross_entropy(pairs.T, target)) / 2

        return contrast + F.cross_entropy(logits[:, -2:], answers)

    return loss

"""CLIP's vectors are those of transformers' own forward pass."""

import pytest
import torch

from stages.shared.pretrained import clip
from stages.shared.pretrained.clip import (
    image_features,
    load_clip,
    logits,
    prototypes,
    text_features,
)
from stages.shared.pretrained.reference import Pretrained
from tests.conftest import CLIP

CAPTIONS = ["a photo with a bird on it", "a photo without a bird on it"]


def test_the_scaled_similarities_are_those_of_the_whole_model(table, monkeypatch):
    monkeypatch.setattr(clip, "BATCH", 4)
    model, processor = load_clip(Pretrained(id=CLIP, revision=None))
    ours = logits(
        image_features(table, model, processor), text_features(CAPTIONS, model, processor), model
    )
    images = [table.image(row) for row in range(len(table))]
    with torch.no_grad():
        theirs = model(
            **processor(text=CAPTIONS, images=images, return_tensors="pt", padding=True)
        ).logits_per_image
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_prototypes_are_the_directions_of_the_classes_means():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    half = 2**-0.5
    assert prototypes(features, [0, 0, 1], 3).tolist() == [
        pytest.approx([half, half]),
        [0.0, 1.0],
        [0.0, 0.0],
    ]


def test_a_clip_that_is_not_there_is_named():
    with pytest.raises(
        SystemExit, match=r"params.yaml: clip.id: 'data/base/nowhere' cannot be loaded"
    ):
        load_clip(Pretrained(id="data/base/nowhere", revision=None))

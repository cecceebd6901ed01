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
    images = image_features(table, model, processor)
    texts = text_features(CAPTIONS, model, processor)
    ours = logits(images, texts, model)

    pictures = [table.image(row) for row in range(len(table))]
    inputs = processor(text=CAPTIONS, images=pictures, return_tensors="pt", padding=True)
    with torch.no_grad():
        theirs = model(**inputs).logits_per_image

    assert ours == pytest.approx(theirs, abs=1e-4)


def test_prototypes_are_the_directions_of_the_classes_means():
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    diagonal = [2**-0.5, 2**-0.5]

    expected = [pytest.approx(diagonal), [0.0, 1.0], [0.0, 0.0]]
    assert prototypes(features, [0, 0, 1], 3).tolist() == expected


def test_a_clip_that_is_not_there_is_named():
    reason = r"params.yaml: clip.id: 'data/base/nowhere' cannot be loaded"
    with pytest.raises(SystemExit, match=reason):
        load_clip(Pretrained(id="data/base/nowhere", revision=None))

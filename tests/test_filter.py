"""filter drops the lowest share, and its confidence is CLIP's."""

import pandas as pd
import pytest
import torch

from stages.filter import captions, confidence, load_clip, split
from tests.conftest import CLIP


def test_the_lowest_share_is_dropped_and_the_rest_keeps_its_order():
    rows = pd.DataFrame({"key": list("abcdefghij"), "score": [0.9, 0.1, 0.8, 0.3, 0.7, 0.6, 0.5, 0.4, 0.95, 0.2]})
    kept, dropped = split(rows, 0.25)
    assert list(dropped["key"]) == ["b", "j"]
    assert list(kept["key"]) == list("acdefghi")


def test_equal_scores_are_dropped_in_key_order():
    kept, dropped = split(pd.DataFrame({"key": ["b", "a", "c", "d"], "score": [0.5] * 4}), 0.5)
    assert list(dropped["key"]) == ["a", "b"]
    assert list(kept["key"]) == ["c", "d"]


def test_dropping_nothing_keeps_everything():
    rows = pd.DataFrame({"key": ["a", "b"], "score": [0.1, 0.2]})
    assert len(split(rows, 0.0)[0]) == 2


def test_the_captions_are_the_supplements():
    assert captions("bird") == ["a photo with a bird on it", "a photo without a bird on it"]


def test_confidence_is_the_softmax_of_scaled_cosines(table):
    model, processor = load_clip(CLIP, None)
    scores = confidence(table, "bird", model, processor)
    inputs = processor(text=captions("bird"), images=[table.image(3)], return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model(**inputs)
        cosines = torch.nn.functional.cosine_similarity(out.image_embeds[:, None], out.text_embeds[None], dim=-1)
        expected = (model.logit_scale.exp() * cosines).softmax(-1)[0, 0]
    assert scores.shape == (6,)
    assert scores[3] == pytest.approx(float(expected), abs=1e-5)


def test_a_clip_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match=r"params.yaml: filter.clip: 'data/base/nowhere' cannot be loaded"):
        load_clip("data/base/nowhere", None)

"""filter drops the lowest share, and its confidence is CLIP's."""

import math

import pandas as pd
import pytest
import torch

from stages.filter import captions, confidence, split


def test_the_lowest_share_is_dropped_and_the_rest_keeps_its_order():
    scores = [0.9, 0.1, 0.8, 0.3, 0.7, 0.6, 0.5, 0.4, 0.95, 0.2]
    rows = pd.DataFrame({"key": list("abcdefghij"), "score": scores})

    kept, dropped = split(rows, 0.25)

    assert list(dropped["key"]) == ["b", "j"]
    assert list(kept["key"]) == list("acdefghi")


def test_equal_scores_are_dropped_in_key_order():
    rows = pd.DataFrame({"key": ["b", "a", "c", "d"], "score": [0.5] * 4})

    kept, dropped = split(rows, 0.5)

    assert list(dropped["key"]) == ["a", "b"]
    assert list(kept["key"]) == ["c", "d"]


def test_dropping_nothing_keeps_everything():
    rows = pd.DataFrame({"key": ["a", "b"], "score": [0.1, 0.2]})
    assert len(split(rows, 0.0)[0]) == 2


def test_the_captions_are_the_supplements(classes):
    chosen_from = captions("metaclass", classes)
    assert chosen_from == ["a photo with a bird on it", "a photo without a bird on it"]


def test_the_captions_of_the_criterion_class_name_the_classes(classes):
    assert captions("class", classes) == [f"a photo of a {name} bird" for name in classes["name"]]


SCORES = torch.tensor([[0.0, math.log(3)], [math.log(4), 0.0]])


def test_the_metaclass_criterion_takes_the_positive_captions_share():
    assert confidence(SCORES, "metaclass", pd.Series([1, 1])).tolist() == pytest.approx([0.25, 0.8])


def test_the_class_criterion_takes_the_share_of_each_images_own_class():
    assert confidence(SCORES, "class", pd.Series([1, 1])).tolist() == pytest.approx([0.75, 0.2])

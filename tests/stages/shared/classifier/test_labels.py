"""Eq. 3, CLIP as the annotator, and label smoothing."""

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import CLIPModel, CLIPProcessor

from stages.shared.classifier.labels import (
    Answers,
    clip_labels,
    hard_labels,
    smooth,
    soft_labels,
)
from stages.shared.errors import BadInput
from stages.shared.pretrained.reference import Pretrained
from stages.shared.tables import Table
from tests.conftest import CLIP


def table_of(source: list[int], target: list[int], strength: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"source_label": source, "target_label": target, "strength": strength})


def label(source: int, target: int, strength: float, gamma: float) -> list[float]:
    return soft_labels(table_of([source], [target], [strength]), gamma, [strength], 3)[0].tolist()


@pytest.mark.parametrize(
    ("gamma", "of_source", "of_target"), [(0.1, 0.04, 0.96), (0.5, 0.16, 0.84)]
)
def test_the_two_worked_labels_of_table_6(gamma, of_source, of_target):
    assert label(2, 0, 0.7, gamma) == pytest.approx([of_target, 0, of_source], abs=0.005)


def test_gamma_zero_is_all_target():
    assert label(0, 1, 0.5, 0.0) == [0, 1, 0]


def test_the_same_class_on_both_sides_is_one_hot():
    assert label(1, 1, 0.5, 1.0) == [0, 1, 0]


def test_an_image_without_reference_is_all_target():
    assert label(-1, 2, 0.7, 0.5) == [0, 0, 1]


def test_rows_do_not_mix_and_each_strength_takes_its_gamma():
    rows = table_of([0, 1], [1, 2], [0.81, 0.25])

    labels = soft_labels(rows, [1.0, 0.5], [0.25, 0.81], 3)  # 0.81^0.5 = 0.9, 0.25^1 = 0.25

    torch.testing.assert_close(labels[:], torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.75, 0.25]]))


def test_a_gamma_too_few_is_refused():
    with pytest.raises(BadInput, match=r"synth\.gamma: has 1 numbers for 2 strengths"):
        soft_labels(table_of([0, 1], [1, 2], [0.25, 0.81]), [0.5], [0.25, 0.81], 3)


def test_hard_labels_are_all_of_one_class():
    assert hard_labels(pd.Series([1, 2]), 3)[:].tolist() == [[0, 1, 0], [0, 0, 1]]


def test_rows_are_read_in_the_order_that_they_are_asked_for():
    labels = soft_labels(table_of([0, 1, 2], [1, 2, 0], [0.25, 0.81, 1.0]), 0.5, [], 3)

    assert len(labels) == labels.classes == 3
    for rows in ([2, 0], np.array([2, 0]), torch.tensor([2, 0])):
        torch.testing.assert_close(labels[rows], torch.tensor([[1, 0, 0], [0.5, 0.5, 0]]))


def test_labels_of_two_classes_take_bytes_by_the_image_and_not_by_the_class():
    count = 1000
    rows = table_of([0] * count, [1] * count, [0.5] * count)
    few, many = (soft_labels(rows, 0.5, [0.5], classes) for classes in (2, 10**6))

    for labels in (few, many):
        tensors = [part for part in vars(labels).values() if isinstance(part, torch.Tensor)]
        assert sum(tensor.nbytes for tensor in tensors) == 20 * count
    assert many[[5]].shape == (1, 10**6)


def test_answers_in_half_precision_sum_to_one_and_are_within_a_thousandth():
    shares = torch.rand(50, 200, generator=torch.Generator().manual_seed(0)).softmax(1)
    answers = Answers(shares)

    assert answers.shares.nbytes == 2 * shares.numel()
    torch.testing.assert_close(answers[:], shares, rtol=1e-3, atol=0)
    torch.testing.assert_close(answers[:].sum(1), torch.ones(50))
    torch.testing.assert_close(answers.smoothed(0.1)[[7]], smooth(answers[[7]], 0.1))


@pytest.fixture
def embeddings(table) -> tuple[np.ndarray, float]:
    """The six birds' embeddings, of unit length, and CLIP's scale.

    By transformers' own forward pass.
    """
    model = CLIPModel.from_pretrained(CLIP, dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(CLIP)
    images = [table.image(row) for row in range(len(table))]
    inputs = processor(text=["a bird"], images=images, return_tensors="pt")

    with torch.no_grad():
        found = model(**inputs).image_embeds.numpy()
        return found / np.linalg.norm(found, axis=1, keepdims=True), float(model.logit_scale.exp())


def test_clip_labels_are_the_softmax_over_the_classes_prototypes(table, embeddings):
    """Real: the first five birds of classes 0, 0, 1, 1, 2; to be labelled: all but the first."""
    features, scale = embeddings
    real = Table(table.folder, table.rows.iloc[:5])
    synthetic = Table(table.folder, table.rows.iloc[1:])

    sums = np.stack([features[0] + features[1], features[2] + features[3], features[4]])
    directions = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    powers = np.exp(scale * features[1:] @ directions.T)

    labels = clip_labels(synthetic, real, 3, Pretrained(id=CLIP, revision=None))[:].numpy()

    assert labels == pytest.approx(powers / powers.sum(1, keepdims=True), abs=1e-3)
    assert labels.argmax(1).tolist() == [0, 1, 1, 2, 2]


def test_smoothing_by_hand():
    smoothed = smooth(torch.tensor([[0.16, 0.84, 0.0, 0.0]]), 0.1)  # 0.9 of each, and 0.1 / 4 more

    torch.testing.assert_close(smoothed, torch.tensor([[0.169, 0.781, 0.025, 0.025]]))
    assert float(smoothed.sum()) == pytest.approx(1)

"""Eq. 3 and label smoothing."""

import pytest
import torch

from stages.shared.labels import smooth, soft_label


def label(source: int, target: int, strength: float, gamma: float) -> list[float]:
    return soft_label(torch.tensor([source]), torch.tensor([target]), torch.tensor([strength]), gamma, 3)[0].tolist()


@pytest.mark.parametrize(("gamma", "of_source", "of_target"), [(0.1, 0.04, 0.96), (0.5, 0.16, 0.84)])
def test_the_two_worked_labels_of_table_6(gamma, of_source, of_target):
    assert label(2, 0, 0.7, gamma) == pytest.approx([of_target, 0, of_source], abs=0.005)


def test_gamma_zero_is_all_target():
    assert label(0, 1, 0.5, 0.0) == [0, 1, 0]


def test_the_same_class_on_both_sides_is_one_hot():
    assert label(1, 1, 0.5, 1.0) == [0, 1, 0]


def test_an_image_without_reference_is_all_target():
    assert label(-1, 2, 1.0, 0.5) == [0, 0, 1]


def test_rows_do_not_mix():
    labels = soft_label(torch.tensor([0, 1]), torch.tensor([1, 2]), torch.tensor([0.25, 0.81]), 0.5, 3)
    torch.testing.assert_close(labels, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.1, 0.9]]))


def test_smoothing_by_hand():
    smoothed = smooth(torch.tensor([[0.16, 0.84, 0.0, 0.0]]), 0.1)  # 0.9 of each, and 0.1 / 4 more
    torch.testing.assert_close(smoothed, torch.tensor([[0.169, 0.781, 0.025, 0.025]]))
    assert float(smoothed.sum()) == pytest.approx(1)

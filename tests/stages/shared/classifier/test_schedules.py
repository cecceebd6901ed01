"""Learning rates and deferred re-weighting against hand-computed values and torch."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from stages.shared.classifier.labels import one_hot
from stages.shared.classifier.schedules import (
    cosine_factor,
    cross_entropy,
    drw_weights,
    join,
    rate_factor,
    step_factor,
)


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 0.2), (4, 1), (5, 1), (20, 0.75), (27.5, 0.5), (49, (1 + np.cos(np.pi * 44 / 45)) / 2)],
)
def test_the_cosine_warms_up_and_falls(step, factor):
    assert cosine_factor(step, 50, 0.1) == pytest.approx(factor)


@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_without_warm_up_the_rate_starts_at_the_top(schedule):
    assert rate_factor(schedule, 0.0, 0, 5, 10) == 1


@pytest.mark.parametrize(
    ("epoch", "factor"),
    [
        (0, 0.2), (3, 0.8), (4, 1), (5, 1), (159, 1),
        (160, 0.01), (179, 0.01), (180, 0.0001), (199, 0.0001),
    ],
)  # fmt: skip
def test_the_steps_of_200_epochs_with_five_of_warm_up(epoch, factor):
    assert step_factor(epoch, 200, 0.025) == pytest.approx(factor)


def test_the_step_schedule_moves_from_epoch_to_epoch_and_the_cosine_in_between():
    steps = [rate_factor("step", 0.2, step, 3, 10) for step in range(9)]
    assert steps == [0.5, 0.5, 0.5, 1, 1, 1, 1, 1, 1]

    rises = [rate_factor("cosine", 0.2, step, 3, 10) for step in range(6)]
    assert rises == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])


def test_deferred_weights_by_hand():
    """For n = 20 and 1, (1 - b) / (1 - b^n) is 0.0500475 and 1.

    Scaled to a sum of 2, that is 0.0953243 and 1.9046757.
    """
    weights = drw_weights(np.array([20, 1]), epoch=8, epochs=10)

    assert weights is not None
    assert weights.tolist() == pytest.approx([0.0953243, 1.9046757], abs=1e-6)


@pytest.mark.parametrize(("epochs", "first"), [(5, 4), (9, 8), (10, 8), (200, 160)])
def test_weights_set_in_with_the_first_milestone(epochs, first):
    sizes = np.array([3, 1])

    weighted = [epoch for epoch in range(epochs) if drw_weights(sizes, epoch, epochs) is not None]

    assert weighted[0] == first
    assert step_factor(first - 1, epochs, 0.0) == 1
    assert step_factor(first, epochs, 0.0) == 0.01


@pytest.fixture
def outputs() -> torch.Tensor:
    return torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.0, 1.8])])
def test_the_loss_is_torchs_for_hard_labels(outputs, weights):
    labels = torch.tensor([0, 2, 1, 1, 0, 2])
    expected = F.cross_entropy(outputs, labels, weight=weights)

    found = cross_entropy(outputs, [one_hot(labels, 3)], weights)

    torch.testing.assert_close(found, expected)


def test_even_weights_change_nothing_for_soft_labels(outputs):
    labels = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).softmax(1)

    found = cross_entropy(outputs, [labels], torch.ones(3))

    torch.testing.assert_close(found, F.cross_entropy(outputs, labels))


def test_a_soft_labels_shares_count_by_their_classes_weights():
    """Answers of 1/4 and 3/4, a label of 1/2 and 1/2, weights of 1 and 3.

    The loss is (0.5 log 4 + 1.5 log 4/3) / 2.
    """
    outputs = torch.tensor([[0.25, 0.75]]).log()

    loss = cross_entropy(outputs, [torch.tensor([[0.5, 0.5]])], torch.tensor([1.0, 3.0]))

    assert float(loss) == pytest.approx((0.5 * np.log(4) + 1.5 * np.log(4 / 3)) / 2)


def test_cmo_s_two_labels_are_averaged_each_by_its_own_weights(outputs):
    """As naver-ai/cmo: lambda * criterion(output, a) + (1 - lambda) * criterion(output, b)."""
    weights = torch.tensor([0.2, 1.0, 1.8])
    own, patches = torch.tensor([0, 0, 1, 1, 0, 0]), torch.tensor([2, 2, 2, 1, 2, 2])
    criterion = torch.nn.CrossEntropyLoss(weight=weights)
    expected = 0.7 * criterion(outputs, own) + 0.3 * criterion(outputs, patches)

    parts = [0.7 * one_hot(own, 3), 0.3 * one_hot(patches, 3)]
    torch.testing.assert_close(cross_entropy(outputs, parts, weights), expected)
    assert abs(cross_entropy(outputs, [join(parts)], weights) - expected) > 0.05


def test_without_weights_parts_are_their_sum(outputs):
    parts = list(torch.rand(2, 6, 3, generator=torch.Generator().manual_seed(1)) / 6)
    expected = F.cross_entropy(outputs, parts[0] + parts[1])
    torch.testing.assert_close(cross_entropy(outputs, parts, None), expected)


def test_a_part_without_a_share_counts_nothing(outputs):
    weights = torch.tensor([0.2, 1.0, 1.8])
    labels = one_hot(torch.tensor([0, 0, 1, 1, 0, 0]), 3)
    alone = cross_entropy(outputs, [labels], weights)
    torch.testing.assert_close(cross_entropy(outputs, [labels, 0 * labels], weights), alone)

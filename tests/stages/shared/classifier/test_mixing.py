"""CutMix, Mixup and CMO on a batch with soft labels."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp

from stages.shared.classifier.labels import one_hot
from stages.shared.classifier.mixing import (
    inverse_shares,
    mix_batch,
    mix_probability,
    paste,
    paste_box,
)
from stages.shared.classifier.schedules import join


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 3, 8, 8, generator=generator), torch.tensor([0, 2, 1, 1, 0])


@pytest.mark.parametrize(("mix", "mixer"), [("cutmix", CutMix), ("mixup", MixUp)])
def test_mixing_agrees_with_torchvision_on_hard_labels(batch, mix, mixer):
    images, labels = batch
    torch.manual_seed(11)
    expected = mixer(num_classes=3)(images, labels)

    found = mix_batch(images, one_hot(labels, 3), mix, seed=11)

    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(join(found[1]), expected[1])
    assert not torch.equal(found[0], images)


@pytest.mark.parametrize("mix", ["cutmix", "mixup", "cmo"])
def test_mixed_soft_labels_sum_to_one(batch, mix):
    soft = torch.tensor([[0.16, 0.84, 0.0], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])

    mixed = join(mix_batch(batch[0][:4], soft, mix, seed=1)[1])
    torch.testing.assert_close(mixed.sum(1), torch.ones(len(mixed)))


def test_a_pasted_box_and_its_share_by_hand():
    """A quarter of 8 x 8 pixels is 4 x 4.

    Around row 1 and column 6, rows 0 to 2 and columns 4 to 7 are inside.
    """
    box = paste_box(8, 8, kept=0.75, y=1, x=6)
    assert box == (slice(0, 3), slice(4, 8))

    images = torch.zeros(1, 3, 8, 8)
    label = torch.tensor([[1.0, 0.0]])
    patches = torch.arange(192.0).reshape(1, 3, 8, 8)
    patch_label = torch.tensor([[0.2, 0.8]])
    pasted, labels = paste(images, label, patches, patch_label, box)

    assert torch.equal(pasted[..., :3, 4:], patches[..., :3, 4:])
    assert int((pasted != 0).sum()) == 3 * 12
    assert join(labels)[0].tolist() == pytest.approx([1 - 0.8 * 12 / 64, 0.8 * 12 / 64])
    assert not images.any()


@pytest.mark.parametrize(("kept", "share"), [(1.0, 0.0), (0.0, 1.0)])
def test_an_empty_box_and_a_full_one(kept, share):
    box = paste_box(8, 8, kept, y=4, x=4)
    black = torch.zeros(1, 3, 8, 8)
    white = torch.ones(1, 3, 8, 8)

    pasted, labels = paste(black, torch.zeros(1, 1), white, torch.ones(1, 1), box)

    assert float(pasted.mean()) == float(join(labels)) == share


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.5, 0.77, 0.99])
def test_the_box_is_that_of_torchvisions_cutmix(kept, monkeypatch):
    mixer = CutMix(num_classes=2)
    centre = iter([3, 9] * 2)  # x, then y
    share = torch.tensor(kept, dtype=torch.float64)
    monkeypatch.setattr(mixer, "_dist", SimpleNamespace(sample=lambda shape: share))
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor([next(centre)]))

    left, top, right, bottom = mixer.make_params([torch.zeros(1, 3, 14, 10)])["box"]

    assert paste_box(14, 10, kept, y=9, x=3) == (slice(top, bottom), slice(left, right))


def test_cmo_labels_images_by_the_area_of_the_patch():
    """White patches on black images: an image's mean is its share of white, whatever the box."""
    images = torch.cat([torch.zeros(3, 3, 8, 8), torch.ones(3, 3, 8, 8)])
    labels = one_hot(torch.tensor([0, 0, 0, 1, 1, 1]), 2)

    shares = set()
    for seed in range(20):
        mixed, parts = mix_batch(images, labels, "cmo", seed)
        found = join(parts)
        assert mixed.shape == (3, 3, 8, 8)
        torch.testing.assert_close(found[:, 1], mixed.mean((1, 2, 3)))
        shares |= set(found[:, 1].tolist())

    assert len(shares) > 5


def test_rows_are_drawn_with_one_over_their_classs_size():
    shares = inverse_shares(np.array([0, 1, 0, 0, 0]))

    assert shares == pytest.approx([1 / 8, 1 / 2, 1 / 8, 1 / 8, 1 / 8])


def test_cmo_rests_in_the_first_four_and_the_last_three_epochs():
    def mixed_epochs(epochs: int) -> list[int]:
        return [epoch for epoch in range(epochs) if mix_probability("cmo", 0.5, epoch, epochs)]

    assert mixed_epochs(10) == [4, 5, 6]
    assert mixed_epochs(200) == list(range(4, 197))


@pytest.mark.parametrize(("mix", "probability"), [("none", 0.0), ("cutmix", 0.3), ("mixup", 0.3)])
def test_other_mixes_never_rest(mix, probability):
    assert {mix_probability(mix, 0.3, epoch, 10) for epoch in range(10)} == {probability}

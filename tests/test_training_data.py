"""What an epoch draws, and how its images are cropped and mixed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import CutMix, MixUp

from stages.shared.errors import BadInput
from stages.shared.labels import one_hot
from stages.shared.tables import Table, encode_png, write_table
from stages.shared.training_data import (
    Data,
    Draws,
    Epoch,
    Pictures,
    Pool,
    draw_epoch,
    even_batches,
    mix_batch,
    real_pool,
    synthetic_pool,
)

ROWS = 200


def make_table(folder: Path, labels: list[int]) -> Table:
    """Images of 8 pixels a side; each pixel is one of its own."""
    random = np.random.default_rng(len(labels))
    images = [Image.fromarray(random.integers(256, size=(8, 8, 3), dtype=np.uint8)) for _ in labels]
    rows = pd.DataFrame({"label": labels, "source_label": 0, "target_label": labels, "strength": 0.25})
    write_table(folder, [encode_png(image) for image in images], rows)
    return Table(folder)


@pytest.fixture
def pools(tmp_path) -> tuple[Pool, Pool]:
    labels = [row % 2 for row in range(ROWS)]
    real, synthetic = make_table(tmp_path / "real", labels), make_table(tmp_path / "synthetic", [1, 1, 1])
    pictures = Pictures(real, 8)
    return Pool(pictures, one_hot(torch.tensor(labels), 2)), synthetic_pool(synthetic, 2, 0.5, 8, 0.0)


@pytest.mark.parametrize(("p", "low", "high"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, ROWS, ROWS)])
def test_synthetic_images_take_the_place_of_a_share_p(pools, p, low, high):
    draws = draw_epoch(0, 0, Data(*pools, p), slack=0)
    assert low <= (draws.synthetic >= 0).sum() <= high
    assert sorted(draws.real) == list(range(ROWS))  # the epoch is as long as the real table
    assert set(draws.synthetic) <= {-1, 0, 1, 2}


def test_epochs_differ_and_repeat(pools):
    data = Data(*pools, 0.5)
    first, again, next_one = (draw_epoch(3, epoch, data, slack=4) for epoch in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first.real != next_one.real).any()


def test_a_replaced_position_gives_the_synthetic_image_and_its_soft_label(pools):
    still = np.zeros(2, dtype=int)
    draws = Draws(np.array([5, 6]), np.array([2, -1]), still, still, still.astype(bool), still)
    epoch = Epoch(Data(*pools, 0.5), draws, resolution=8, padding=0)
    image, label = epoch[0]
    assert torch.equal(image, pools[1].pictures[2])
    assert label.tolist() == [0.5, 0.5]  # (1 - 0.25^0.5) of class 0
    image, label = epoch[1]
    assert torch.equal(image, pools[0].pictures[6])
    assert label.tolist() == [1, 0]


def test_crops_out_of_the_padded_image_and_flips(pools):
    draws = Draws(*(np.array([value]) for value in (0, -1, 0, 3, True, 0)))
    image, _ = Epoch(Data(pools[0]), draws, resolution=6, padding=2)[0]
    padded = np.pad(pools[0].pictures[0].numpy(), ((0, 0), (2, 2), (2, 2)))
    assert (image.numpy() == padded[:, 0:6, 3:9][:, :, ::-1]).all()


def test_resizes_to_a_square(tmp_path):
    wide = Image.new("RGB", (20, 10), (10, 20, 30))
    write_table(tmp_path, [encode_png(wide)], pd.DataFrame({"label": [0]}))
    picture = Pictures(Table(tmp_path), 8)[0]
    assert picture.shape == (3, 8, 8)
    assert picture[:, 4, 4].tolist() == [10, 20, 30]


def test_large_images_are_decoded_when_asked_for(tmp_path):
    write_table(tmp_path, [encode_png(Image.new("RGB", (130, 130), "red"))], pd.DataFrame({"label": [0]}))
    pictures = Pictures(Table(tmp_path), 130)
    assert not pictures.kept
    assert pictures[0].shape == (3, 130, 130)


def test_no_batch_is_tiny():
    assert [len(batch) for batch in even_batches(66, 32)] == [22, 22, 22]
    assert sum(even_batches(7, 3), []) == list(range(7))  # noqa: RUF017


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(5, 3, 8, 8, generator=generator), torch.tensor([0, 2, 1, 1, 0])


@pytest.mark.parametrize(("mix", "mixer"), [("cutmix", CutMix), ("mixup", MixUp)])
def test_mixing_agrees_with_torchvision_on_hard_labels(batch, mix, mixer):
    images, labels = batch
    torch.manual_seed(11)
    torch.rand(())  # decides whether this batch is mixed
    expected = mixer(num_classes=3)(images, labels)
    found = mix_batch(images, one_hot(labels, 3), mix, 1.0, seed=11)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1])
    assert not torch.equal(found[0], images)


def test_mixed_soft_labels_sum_to_one(batch):
    soft = torch.tensor([[0.16, 0.84, 0.0]]).repeat(5, 1).roll(1, 0)
    _, mixed = mix_batch(batch[0], soft, "cutmix", 1.0, seed=1)
    torch.testing.assert_close(mixed.sum(1), torch.ones(5))


def test_a_share_of_the_batches_is_mixed(batch):
    images, labels = batch[0], one_hot(batch[1], 3)
    mixed = [not torch.equal(mix_batch(images, labels, "mixup", 0.3, seed)[0], images) for seed in range(200)]
    assert 40 <= sum(mixed) <= 80
    assert mix_batch(images, labels, "mixup", 0.0, seed=0)[0] is images


def test_refuses_a_class_without_image(tmp_path):
    classes = pd.DataFrame({"index": [0, 1, 2], "name": ["Gull", "Tern", "Auk, Little"]})
    with pytest.raises(BadInput, match="class 'Auk, Little' has no training image"):
        real_pool(make_table(tmp_path, [0, 1]), classes, 8, 0.0)


def test_refuses_an_empty_synthetic_table(tmp_path):
    table = make_table(tmp_path, [0])
    with pytest.raises(BadInput, match="no synthetic image is left"):
        synthetic_pool(Table(tmp_path, table.rows.iloc[:0]), 2, 0.5, 8, 0.0)

"""What an epoch draws, and how its images are augmented."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from stages.shared.classifier import data as training_data
from stages.shared.classifier.data import (
    Augment,
    Batches,
    Centred,
    Data,
    Draws,
    Epochs,
    Pictures,
    Pool,
    batches_of,
    crop,
    crop_stack,
    draw_epoch,
    even_batches,
    real_pool,
    synthetic_pool,
)
from stages.shared.classifier.labels import Shares, hard_labels
from stages.shared.errors import BadInput
from stages.shared.tables import Table, encode_png, write_table
from tests.support.noise import noise_table

ROWS = 200
AS_IT_IS = Augment("crop", 8, 0)  # half of them mirrored: seeds of an even number are not


@pytest.fixture
def pools(tmp_path) -> tuple[Pool, Pool]:
    """160 real images of class 0 and 40 of class 1; three synthetic ones, a quarter of class 0."""
    labels = [int(row % 5 == 0) for row in range(ROWS)]
    real = noise_table(tmp_path / "real", pd.DataFrame({"label": labels}))
    synthetic = noise_table(tmp_path / "synthetic", pd.DataFrame({"label": [1, 1, 1]}))
    zeros = torch.zeros(3, dtype=torch.long)
    soft = Shares(zeros, zeros + 1, torch.full((3,), 0.75), classes=2)

    real_images = Pool(Pictures(real, 8), hard_labels(pd.Series(labels), 2))
    return real_images, synthetic_pool(synthetic, soft, 8, 0.0)


def draw(data: Data, seed: int = 0, epoch: int = 0, probability: float = 0.0) -> Draws:
    return draw_epoch(seed, epoch, data, 10, probability)


@pytest.mark.parametrize(("p", "low", "high"), [(0.0, 0, 0), (0.5, 70, 130), (1.0, ROWS, ROWS)])
def test_synthetic_images_replace_a_share_p_of_the_real_ones(pools, p, low, high):
    draws = draw(Data(*pools, p))

    assert low <= (draws.synthetic >= 0).sum() <= high
    assert sorted(draws.real[:ROWS]) == list(range(ROWS))  # the epoch is as long as the real table
    assert set(draws.synthetic) <= {-1, 0, 1, 2}


def test_patches_are_real_and_of_each_class_alike(pools):
    """A fifth of the images are of class 1, but half of the patches are."""
    data = Data(*pools, 1.0)

    patches = np.concatenate([draw(data, epoch=epoch).real[ROWS:] for epoch in range(20)])

    assert np.mean(data.real_classes()[patches]) == pytest.approx(0.5, abs=0.03)
    assert len(set(patches)) == ROWS
    assert set(draw(data).synthetic[ROWS:]) == {-1}


def test_epochs_differ_and_repeat(pools):
    data = Data(*pools, 0.5)

    first, again, following = (draw(data, 3, epoch, probability=0.5) for epoch in (0, 0, 1))

    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all((a != b).any() for a, b in zip(first, following, strict=True))


def test_a_share_of_the_batches_is_mixed(pools):
    drawn = [draw_epoch(seed, 0, Data(pools[0]), 10, 0.3).mix_seed for seed in range(50)]

    assert np.mean(np.concatenate(drawn) >= 0) == pytest.approx(0.3, abs=0.06)
    assert (draw_epoch(0, 0, Data(pools[0]), 10, 0.0).mix_seed == -1).all()


def test_mixed_batches_bring_as_many_patches(pools):
    draws = draw(Data(pools[0]))._replace(mix_seed=np.array([-1, 7]))
    first, second = batches_of(draws, ROWS // 2, patches=True)

    assert first == list(range(100))
    assert second == [*range(100, 200), *range(300, 400)]


def test_the_epochs_are_gone_through_batch_by_batch(pools):
    epochs = Epochs(Data(pools[0]), lambda epoch: draw(Data(pools[0]), epoch=epoch), AS_IT_IS)

    batches = list(Batches(epochs, range(3, 5), 150, patches=False))

    assert [len(batch) for batch in batches] == [100] * 4
    assert [batch[0] for batch in batches] == [(3, 0), (3, 100), (4, 0), (4, 100)]


def images_of(
    data: Data, real: list[int], synthetic: list[int], augment: Augment, seeds: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The batch of an epoch that shows these rows."""
    draws = Draws(np.array(real), np.array(synthetic), np.array(seeds), np.array([-1]))
    epochs = Epochs(data, lambda _epoch: draws, augment)
    return epochs.__getitems__([(0, position) for position in range(len(real))])


def test_a_replaced_position_gives_the_synthetic_image_and_its_soft_label(pools):
    images, labels = images_of(Data(*pools, 0.5), [5, 6], [2, -1], AS_IT_IS, [0, 0])

    assert torch.equal(images[0], pools[1].pictures[2])
    assert torch.equal(images[1], pools[0].pictures[6])
    assert labels.tolist() == [[0.25, 0.75], [1, 0]]


def test_crops_out_of_the_padded_image_and_flips(pools):
    """The image is one of the 5 x 5 crops of 8 of 12 pixels, or its mirror image.

    Fifty seeds in a row find each of the fifty once.
    """
    padded = np.pad(pools[0].pictures[3].numpy(), ((0, 0), (2, 2), (2, 2)))
    crops = {
        padded[:, top : top + 8, left : left + 8][:, :, ::step].tobytes(): (top, left, step)
        for top in range(5) for left in range(5) for step in (1, -1)
    }  # fmt: skip

    seeds = list(range(1000, 1050))
    images, _ = images_of(Data(pools[0]), [3] * 50, [-1] * 50, Augment("crop", 8, 2), seeds)

    assert {crops[image.numpy().tobytes()] for image in images} == set(crops.values())


@pytest.mark.parametrize(("resolution", "padding"), [(8, 2), (6, 0), (5, 3), (12, 2)])
def test_a_stack_is_cropped_to_the_same_bytes(pools, resolution, padding):
    pictures = [pools[0].pictures[row] for row in range(40)]
    seeds = np.random.default_rng(0).integers(2**62, size=40)

    expected = crop(pictures, seeds, resolution, padding)
    assert torch.equal(crop_stack(torch.stack(pictures), seeds, resolution, padding), expected)


def test_pictures_of_a_teacher_go_back_where_its_pupils_have_no_room(pools, monkeypatch):
    """A device of torch's without memory stands for the GPU."""
    real, synthetic = pools
    bytes_kept = real.pictures.bytes_kept()
    free = bytes_kept / training_data.KEPT
    monkeypatch.setattr(training_data, "device", lambda: SimpleNamespace(type="cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, free))
    places: list[str] = []

    def move(self, target):
        places.append(target.type)

    monkeypatch.setattr(Pictures, "move", move)
    monkeypatch.setattr(Pictures, "is_moved", lambda self: False)

    assert Data(real).move()
    assert not Data(real, synthetic, 0.5).move()
    assert places == ["cuda", "cpu", "cpu"]


def test_pictures_stay_where_they_are_without_a_gpu(pools):
    data = Data(*pools, 0.5)
    assert not data.move()
    assert not pools[0].pictures.is_moved()


@pytest.mark.parametrize("augmentation", ["crop", "resized-crop"])
def test_the_augmentation_is_its_positions_seeds(pools, augmentation):
    augment = Augment(augmentation, 8, 4)
    (first, other, again), _ = images_of(Data(pools[0]), [3] * 3, [-1] * 3, augment, [1, 2, 1])

    assert first.shape == (3, 8, 8)
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_resized_crop_is_torchvisions_recipe_on_a_pillow_image(pools):
    picture = pools[0].pictures[3]
    recipe = v2.Compose(
        [v2.RandomResizedCrop(6), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)]
    )
    torch.manual_seed(7)
    expected = recipe(Image.fromarray(picture.permute(1, 2, 0).numpy()))

    images, _ = images_of(Data(pools[0]), [3], [-1], Augment("resized-crop", 6, 0), [7])

    assert (images[0].permute(1, 2, 0).numpy() == np.asarray(expected)).all()


def test_resizes_to_a_square(tmp_path):
    wide = Image.new("RGB", (20, 10), (10, 20, 30))
    write_table(tmp_path, [encode_png(wide)], pd.DataFrame({"label": [0]}))

    picture = Pictures(Table(tmp_path), 8)[0]

    assert picture.shape == (3, 8, 8)
    assert picture[:, 4, 4].tolist() == [10, 20, 30]


def test_what_fits_is_decoded_once_and_all_else_when_asked_for(tmp_path, monkeypatch):
    images = [encode_png(Image.new("RGB", (130, 130), colour)) for colour in ("red", "blue")]
    write_table(tmp_path, images, pd.DataFrame({"label": [0, 1]}))

    kept = Pictures(Table(tmp_path), 130)
    monkeypatch.setattr(training_data, "KEPT", 0.5)
    monkeypatch.setattr(training_data, "free_memory", lambda: 2 * (2 * 3 * 130**2 - 1))
    read = Pictures(Table(tmp_path), 130)

    assert kept.kept is not None
    assert read.kept is None
    assert all(torch.equal(kept[row], read[row]) for row in range(2))
    assert not torch.equal(kept[0], kept[1])


def test_answers_are_for_the_middle(pools):
    middles = Centred(pools[0].pictures, 4).__getitems__([9, 2])
    assert torch.equal(middles[0], pools[0].pictures[9][:, 2:6, 2:6])


def test_no_batch_is_tiny():
    assert [len(batch) for batch in even_batches(66, 32)] == [22, 22, 22]
    assert sum(even_batches(7, 3), []) == list(range(7))  # noqa: RUF017


def test_sizes_count_the_real_images_of_each_class(pools):
    assert Data(pools[0]).class_sizes().tolist() == [160, 40]


def test_labels_are_smoothed(pools):
    table = pools[1].pictures.table
    labels = synthetic_pool(table, pools[1].labels, 8, 0.1).labels
    assert labels[0].tolist() == pytest.approx([0.9 * 0.25 + 0.05, 0.9 * 0.75 + 0.05])


def test_refuses_a_class_without_image(tmp_path):
    classes = pd.DataFrame({"index": [0, 1, 2], "name": ["Gull", "Tern", "Auk, Little"]})
    table = noise_table(tmp_path, pd.DataFrame({"label": [0, 1]}))

    with pytest.raises(BadInput, match="class 'Auk, Little' has no training image"):
        real_pool(table, classes, 8, 0.0)


def test_refuses_an_empty_synthetic_table(tmp_path: Path):
    table = noise_table(tmp_path, pd.DataFrame({"label": [0]}))
    empty = Table(tmp_path, table.rows.iloc[:0])

    with pytest.raises(BadInput, match="no synthetic image is left"):
        synthetic_pool(empty, torch.empty(0, 2), 8, 0.0)

"""What a classifier sees: real images, replaced by synthetic ones with probability p, cropped, flipped and mixed.

Whatever is random in an epoch is drawn from (seed, epoch) before it starts, so that the result depends neither on the
number of workers nor on an interruption.
"""

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import CutMix, MixUp
from torchvision.transforms.v2.functional import center_crop, crop, horizontal_flip, pil_to_tensor, resize
from tqdm import tqdm

from stages.shared.errors import BadInput
from stages.shared.labels import one_hot, smooth, soft_label
from stages.shared.tables import Table

Mix = Literal["none", "cutmix", "mixup"]
MIXERS = {"cutmix": CutMix, "mixup": MixUp}
SYNTHETIC_COLUMNS = ["source_label", "target_label", "strength"]
SMALL = 128  # pixels: smaller images are decoded once and kept


class Pictures:
    """The images of a table as bytes (3, size, size), squeezed into a square as the paper does."""

    def __init__(self, table: Table, size: int):
        self.table, self.size = table, size
        rows = range(len(table)) if size < SMALL else []
        self.kept = [self._decode(row) for row in tqdm(rows, desc="decode", disable=len(table) < 1000)]

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Tensor:
        return self.kept[row] if self.kept else self._decode(row)

    def _decode(self, row: int) -> Tensor:
        return resize(pil_to_tensor(self.table.image(row)), [self.size, self.size], antialias=True)


class Pool(NamedTuple):
    """Images with their labels (rows, classes)."""

    pictures: Pictures
    labels: Tensor


class Data(NamedTuple):
    """What an arm trains on; a synthetic image takes a real one's place with probability p."""

    real: Pool
    synthetic: Pool | None = None
    p: float = 0.0


def real_pool(table: Table, classes: pd.DataFrame, resize: int, smoothing: float) -> Pool:
    """Raises BadInput for a class without training image."""
    empty = classes.loc[~classes["index"].isin(table.rows["label"]), "name"]
    if len(empty):
        raise BadInput(
            f"data/subsample/manifest.csv: class {empty.iloc[0]!r} has no training image; "
            "add one to the dataset, or take the class out of it"
        )
    labels = one_hot(torch.tensor(table.rows["label"].to_numpy()), len(classes))
    return Pool(Pictures(table, resize), smooth(labels, smoothing))


def synthetic_pool(table: Table, classes: int, gamma: float, resize: int, smoothing: float) -> Pool:
    """Raises BadInput for a table without images."""
    if not len(table):
        raise BadInput(
            "data/filter/manifest.csv: no synthetic image is left; lower filter.drop or raise synth.multiplier"
        )
    source, target, strength = (torch.tensor(table.rows[column].to_numpy()) for column in SYNTHETIC_COLUMNS)
    labels = soft_label(source, target, strength, gamma, classes)
    return Pool(Pictures(table, resize), smooth(labels, smoothing))


class Draws(NamedTuple):
    """One epoch's chance, by position: the row of each pool (synthetic: -1 for none), the crop's corner, the flip."""

    real: np.ndarray
    synthetic: np.ndarray
    top: np.ndarray
    left: np.ndarray
    flip: np.ndarray
    mix_seed: np.ndarray


def draw_epoch(seed: int, epoch: int, data: Data, slack: int) -> Draws:
    """Shuffle the real rows and, with probability p, put a uniformly drawn synthetic row in their place (Sec. 4).

    `slack` is by how many pixels the crop may move.
    """
    random, rows = np.random.default_rng([seed, epoch]), len(data.real.labels)
    real = random.permutation(rows)
    replaced = random.random(rows) < data.p
    drawn = random.integers(len(data.synthetic.labels), size=rows) if data.synthetic else np.zeros(rows, dtype=int)
    top, left = random.integers(slack + 1, size=(2, rows))
    flip, mix_seed = random.random(rows) < 0.5, random.integers(2**62, size=rows)
    return Draws(real, np.where(replaced, drawn, -1), top, left, flip, mix_seed)


class Epoch(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's training images, by position: torchvision's RandomCrop and RandomHorizontalFlip, as drawn before."""

    def __init__(self, data: Data, draws: Draws, resolution: int, padding: int):
        self.data, self.draws = data, draws
        self.resolution, self.padding = resolution, padding

    def __len__(self) -> int:
        return len(self.draws.real)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        draws, pool, row = self.draws, self.data.real, self.draws.real[position]
        if self.data.synthetic is not None and draws.synthetic[position] >= 0:
            pool, row = self.data.synthetic, draws.synthetic[position]
        corner = [int(draws.top[position]) - self.padding, int(draws.left[position]) - self.padding]
        image = crop(pool.pictures[row], *corner, self.resolution, self.resolution)
        return (horizontal_flip(image) if draws.flip[position] else image), pool.labels[row]


class Centred(Dataset[Tensor]):
    """Test images: the middle of each."""

    def __init__(self, pictures: Pictures, resolution: int):
        self.pictures, self.resolution = pictures, resolution

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Tensor:
        return center_crop(self.pictures[row], [self.resolution, self.resolution])


def even_batches(rows: int, batch: int) -> list[list[int]]:
    """As few batches as `batch` allows, of equal size: a last batch of one or two would upset batch normalisation."""
    return [part.tolist() for part in np.array_split(np.arange(rows), -(-rows // batch))]


def mix_batch(images: Tensor, labels: Tensor, mix: Mix, probability: float, seed: int) -> tuple[Tensor, Tensor]:
    """With `probability`, torchvision's CutMix or MixUp with Beta(1, 1); soft labels are mixed like hard ones."""
    if mix == "none":
        return images, labels
    torch.manual_seed(seed)
    if torch.rand(()) >= probability:
        return images, labels
    return MIXERS[mix](num_classes=labels.shape[1])(images, labels)

"""What a classifier sees: real images, some replaced by synthetic ones, all of them augmented.

Whatever is random in an epoch is drawn from (seed, epoch) before it starts, so that the result
depends neither on the number of workers nor on an interruption.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize
from tqdm import tqdm

from stages.shared.classifier.choices import Augmentation
from stages.shared.classifier.labels import one_hot, smooth
from stages.shared.classifier.mixing import inverse_shares
from stages.shared.errors import BadInput
from stages.shared.paths import FILTER, SUBSAMPLE
from stages.shared.running.runtime import cores
from stages.shared.tables import Table

SYNTHETIC_COLUMNS = ["source_label", "target_label", "strength"]
KEPT = 2 * 2**30  # bytes of decoded pictures of a table
JITTER = 0.4  # of brightness, contrast and saturation


def fits(rows: int, size: int) -> bool:
    """Whether `rows` pictures of `size` pixels a side can be decoded once and kept in memory.

    A small dataset's can; others are decoded in each epoch.
    """
    return 3 * size**2 * rows <= KEPT


class Pictures:
    """The images of a table as bytes (3, size, size), squeezed into a square as the paper does.

    They are kept in memory where they fit, unless `keep` says otherwise.
    """

    def __init__(self, table: Table, size: int, keep: bool | None = None):
        self.table = table
        self.size = size
        keep = fits(len(table), size) if keep is None else keep
        self.kept = self._decode_all() if keep else None

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> Tensor:
        return self._decode(row) if self.kept is None else self.kept[row]

    def _decode_all(self) -> Tensor:
        """(rows, 3, size, size): one tensor, which workers share as a whole."""
        rows = len(self.table)
        kept = torch.empty(rows, 3, self.size, self.size, dtype=torch.uint8)

        with ThreadPoolExecutor(cores()) as pool:
            pictures = pool.map(self._decode, range(rows))
            bar = tqdm(pictures, desc="decode", total=rows, disable=rows < 1000)
            for row, picture in enumerate(bar):
                kept[row] = picture

        return kept

    def _decode(self, row: int) -> Tensor:
        return resize(pil_to_tensor(self.table.image(row)), [self.size, self.size], antialias=True)


class Pool(NamedTuple):
    """Images with their labels (rows, classes)."""

    pictures: Pictures
    labels: Tensor


class Data(NamedTuple):
    """What an arm trains on; a real image is replaced by a synthetic one with probability p."""

    real: Pool
    synthetic: Pool | None = None
    p: float = 0.0

    def real_classes(self) -> np.ndarray:
        """The class of each real image, (rows,)."""
        return self.real.pictures.table.rows["label"].to_numpy()

    def class_sizes(self) -> np.ndarray:
        """How many real images each class has."""
        return np.bincount(self.real_classes(), minlength=self.real.labels.shape[1])


def real_pool(table: Table, classes: pd.DataFrame, resize: int, smoothing: float) -> Pool:
    """Raises BadInput for a class without training image."""
    empty = classes.loc[~classes["index"].isin(table.rows["label"]), "name"]
    if len(empty):
        raise BadInput(
            f"{SUBSAMPLE}/manifest.csv: class {empty.iloc[0]!r} has no training image; "
            "add one to the dataset, or take the class out of it"
        )

    labels = one_hot(torch.tensor(table.rows["label"].to_numpy()), len(classes))
    return Pool(Pictures(table, resize), smooth(labels, smoothing))


def synthetic_pool(table: Table, labels: Tensor, resize: int, smoothing: float) -> Pool:
    """Raises BadInput for a table without images."""
    if not len(table):
        raise BadInput(
            f"{FILTER}/manifest.csv: no synthetic image is left; "
            "lower filter.drop or raise synth.multiplier"
        )

    return Pool(Pictures(table, resize), smooth(labels, smoothing))


class Draws(NamedTuple):
    """All random draws of one epoch.

    By position: the row of each pool (synthetic: -1 for none) and the augmentation's seed. The
    second half of the positions are the patches that CMO pastes on the images of the first half.
    By batch: the mixer's seed, -1 for none.
    """

    real: np.ndarray
    synthetic: np.ndarray
    seed: np.ndarray
    mix_seed: np.ndarray


def draw_epoch(seed: int, epoch: int, data: Data, batches: int, mix_probability: float) -> Draws:
    """Shuffle the real rows, and replace each with probability p by a synthetic one (Sec. 4.1).

    The synthetic row is drawn uniformly.
    """
    random = np.random.default_rng([seed, epoch])
    rows = len(data.real.labels)

    # The order of the draws is part of the result: each one moves those that follow.
    shuffled = random.permutation(rows)
    replaced = random.random(rows) < data.p
    drawn = np.zeros(rows, dtype=int)
    if data.synthetic:
        drawn = random.integers(len(data.synthetic.labels), size=rows)
    seeds = random.integers(2**62, size=2 * rows)
    mixed = random.random(batches) < mix_probability
    mix_seed = np.where(mixed, random.integers(2**62, size=batches), -1)
    patches = random.choice(rows, size=rows, p=inverse_shares(data.real_classes()))

    real = np.concatenate([shuffled, patches])
    synthetic = np.concatenate([np.where(replaced, drawn, -1), np.full(rows, -1)])

    return Draws(real, synthetic, seeds, mix_seed)


def augmenter(augmentation: Augmentation, resolution: int, padding: int) -> v2.Transform:
    """torchvision's transforms of an image's bytes (3, size, size).

    "crop" is the paper's (Sec. 4.2), "resized-crop" the official code's for a long tail. The latter
    are done by Pillow, as in the official code: it computes in whole numbers, so that the result
    does not depend on the number of threads.
    """
    if augmentation == "crop":
        return v2.Compose([v2.RandomCrop(resolution, padding), v2.RandomHorizontalFlip()])

    jitter = v2.ColorJitter(JITTER, JITTER, JITTER)
    crop = v2.RandomResizedCrop(resolution)

    return v2.Compose([v2.ToPILImage(), crop, v2.RandomHorizontalFlip(), jitter, v2.PILToTensor()])


class Epoch(Dataset[tuple[Tensor, Tensor]]):
    """One epoch's training images and labels by position, augmented as drawn before."""

    def __init__(self, data: Data, draws: Draws, augment: v2.Transform):
        self.data = data
        self.draws = draws
        self.augment = augment

    def __len__(self) -> int:
        return len(self.draws.real)

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        draws = self.draws
        pool = self.data.real
        row = draws.real[position]
        if self.data.synthetic is not None and draws.synthetic[position] >= 0:
            pool = self.data.synthetic
            row = draws.synthetic[position]

        # torchvision's transforms draw from the common generator: seeded here, an image's
        # augmentation does not depend on which worker makes it.
        torch.default_generator.manual_seed(int(draws.seed[position]))

        return self.augment(pool.pictures[row]), pool.labels[row]


class Centred(Dataset[Tensor]):
    """The middle of each image, for inference."""

    def __init__(self, pictures: Pictures, resolution: int):
        self.pictures = pictures
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> Tensor:
        return center_crop(self.pictures[row], [self.resolution, self.resolution])


def even_batches(rows: int, batch: int) -> list[list[int]]:
    """As few batches as `batch` allows, of equal size.

    A last batch of one or two would upset batch normalisation.
    """
    return [part.tolist() for part in np.array_split(np.arange(rows), -(-rows // batch))]


def add_patches(batches: list[list[int]], draws: Draws) -> list[list[int]]:
    """The batches that are to be mixed, followed by as many patches (CMO)."""
    half = len(draws.real) // 2

    return [
        batch if seed < 0 else [*batch, *(half + position for position in batch)]
        for batch, seed in zip(batches, draws.mix_seed, strict=True)
    ]

"""What a classifier sees: real images, some replaced by synthetic ones, all of them augmented.

Whatever is random in an epoch is drawn from (seed, epoch) before it starts, so that the result
depends neither on the number of workers nor on an interruption.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2
from torchvision.transforms.v2.functional import center_crop, pil_to_tensor, resize

from stages.shared.classifier.choices import Augmentation
from stages.shared.classifier.labels import Labels, hard_labels
from stages.shared.classifier.mixing import inverse_shares
from stages.shared.classifier.portions import WHOLE, Portion
from stages.shared.errors import BadInput
from stages.shared.paths import FILTER, SUBSAMPLE
from stages.shared.running.memory import free_memory
from stages.shared.running.runtime import device, thread_pool, to_device
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress

SYNTHETIC_COLUMNS = ["source_label", "target_label", "strength"]
KEPT = 1 / 8  # of the free memory: an arm has up to four tables
JITTER = 0.4  # of brightness, contrast and saturation


def fits(rows: int, size: int) -> bool:
    """Whether `rows` pictures of `size` pixels a side can be decoded once and kept in memory.

    A small dataset's can; others are decoded in each epoch.
    """
    return 3 * size**2 * rows <= KEPT * free_memory()


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

    def bytes_kept(self) -> int:
        return 0 if self.kept is None else self.kept.nbytes

    def is_moved(self) -> bool:
        return self.kept is not None and self.kept.device.type != "cpu"

    def move(self, target: torch.device) -> None:
        """Keep the decoded pictures there from now on."""
        if self.kept is not None:
            self.kept = self.kept.to(target)

    def _decode_all(self) -> Tensor:
        """(rows, 3, size, size): one tensor, which workers share as a whole."""
        rows = len(self.table)
        kept = torch.empty(rows, 3, self.size, self.size, dtype=torch.uint8)

        with thread_pool() as pool:
            pictures = pool.map(self._decode, range(rows))
            bar = Progress(pictures, desc="decode", total=rows, disable=rows < 1000)
            for row, picture in enumerate(bar):
                kept[row] = picture

        return kept

    def _decode(self, row: int) -> Tensor:
        return resize(pil_to_tensor(self.table.image(row)), [self.size, self.size], antialias=True)


class Pool(NamedTuple):
    """Images with their labels."""

    pictures: Pictures
    labels: Labels


class Data(NamedTuple):
    """What an arm trains on; a real image is replaced by a synthetic one with probability p."""

    real: Pool
    synthetic: Pool | None = None
    p: float = 0.0

    def move(self) -> bool:
        """Keep all pictures on the GPU, where they are decoded and it has room; whether they are.

        Then the GPU augments, and no process decodes or crops beside it.
        """
        pictures = [pool.pictures for pool in (self.real, self.synthetic) if pool is not None]
        fitting = device().type == "cuda" and all(each.bytes_kept() for each in pictures)
        if fitting:
            needed = sum(each.bytes_kept() for each in pictures if not each.is_moved())
            fitting = needed <= KEPT * torch.cuda.mem_get_info(device())[0]

        # a teacher's may be there, and go back where its pupil's have no room beside them
        for each in pictures:
            each.move(device() if fitting else torch.device("cpu"))
        return fitting

    def real_classes(self) -> np.ndarray:
        """The class of each real image, (rows,)."""
        return self.real.pictures.table.rows["label"].to_numpy()

    def class_sizes(self) -> np.ndarray:
        """How many real images each class has."""
        return np.bincount(self.real_classes(), minlength=self.real.labels.classes)


def real_pool(table: Table, classes: pd.DataFrame, resize: int, smoothing: float) -> Pool:
    """Raises BadInput for a class without training image."""
    empty = classes.loc[~classes["index"].isin(table.rows["label"]), "name"]
    if len(empty):
        raise BadInput(
            f"{SUBSAMPLE}/manifest.csv: class {empty.iloc[0]!r} has no training image; "
            "add one to the dataset, or take the class out of it"
        )

    labels = hard_labels(table.rows["label"], len(classes))
    return Pool(Pictures(table, resize), labels.smoothed(smoothing))


def synthetic_pool(table: Table, labels: Labels, resize: int, smoothing: float) -> Pool:
    """Raises BadInput for a table without images."""
    if not len(table):
        raise BadInput(
            f"{FILTER}/manifest.csv: no synthetic image is left; "
            "lower filter.drop or raise synth.multiplier"
        )

    return Pool(Pictures(table, resize), labels.smoothed(smoothing))


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


class Augment(NamedTuple):
    """How images are varied, by name and numbers (see params.yaml)."""

    name: Augmentation
    resolution: int
    padding: int


def read_seeds(seeds: np.ndarray, places: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each seed as a number whose digits are the crop's row, its column and whether it is mirrored.

    places: how many rows, and how many columns, a crop can begin at.
    """
    return seeds % places, seeds // places % places, seeds // places**2 % 2


def crop(pictures: Sequence[Tensor], seeds: np.ndarray, resolution: int, padding: int) -> Tensor:
    """A random crop out of each black-padded picture, half of them mirrored (Sec. 4.2).

    pictures: bytes (3, size, size). Returns (n, 3, resolution, resolution).
    """
    size = pictures[0].shape[-1]
    tops, lefts, mirrored = read_seeds(seeds, size + 2 * padding - resolution + 1)
    padded = np.zeros((size + 2 * padding, size + 2 * padding, 3), np.uint8)
    inside = padded[padding : padding + size, padding : padding + size]
    crops = np.empty((len(pictures), resolution, resolution, 3), np.uint8)

    for row, picture in enumerate(pictures):
        inside[:] = picture.permute(1, 2, 0).numpy()
        top = tops[row]
        left = lefts[row]
        part = padded[top : top + resolution, left : left + resolution]
        crops[row] = part[:, ::-1] if mirrored[row] else part

    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def crop_stack(pictures: Tensor, seeds: np.ndarray, resolution: int, padding: int) -> Tensor:
    """`crop` of a tensor (n, 3, size, size), on its device: the same bytes."""
    places = pictures.shape[-1] + 2 * padding - resolution + 1
    numbers = torch.from_numpy(np.stack(read_seeds(seeds, places)))
    tops, lefts, mirrored = to_device(numbers, pictures.device)

    steps = torch.arange(resolution, device=pictures.device)
    rows = tops[:, None] + steps
    columns = lefts[:, None] + torch.where(mirrored[:, None] == 1, steps.flip(0), steps)

    padded = F.pad(pictures, [padding] * 4)
    images = torch.arange(len(pictures), device=pictures.device)[:, None, None, None]
    colours = torch.arange(3, device=pictures.device)[None, :, None, None]
    return padded[images, colours, rows[:, None, :, None], columns[:, None, None, :]]


def resized_crop(pictures: Sequence[Tensor], seeds: np.ndarray, resolution: int) -> Tensor:
    """A crop of random size and shape, mirrored, with colour jitter (official code, Sec. 4.3).

    It is done by Pillow, as in the official code: it computes in whole numbers, so that the result
    does not depend on the number of threads. pictures: bytes (3, size, size).
    """
    jitter = v2.ColorJitter(JITTER, JITTER, JITTER)
    resize = v2.RandomResizedCrop(resolution)
    steps = [v2.ToPILImage(), resize, v2.RandomHorizontalFlip(), jitter, v2.PILToTensor()]
    transform = v2.Compose(steps)

    varied = []
    for picture, seed in zip(pictures, seeds, strict=True):
        # torchvision's transforms draw from the common generator
        torch.default_generator.manual_seed(int(seed))
        varied.append(transform(picture))

    return torch.stack(varied)


class Epochs(Dataset[tuple[Tensor, Tensor]]):
    """All epochs' training images and labels, by batch, augmented as drawn before.

    draw: an epoch's draws. An index is a pair, an epoch and a position in it; a batch is of one
    epoch.
    """

    def __init__(self, data: Data, draw: Callable[[int], Draws], augment: Augment):
        self.data = data
        self.draw = draw
        self.augment = augment
        self._drawn: tuple[int, Draws] | None = None

    def draws(self, epoch: int) -> Draws:
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, self.draw(epoch))
        return self._drawn[1]

    def __getitems__(self, places: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The images, bytes (n, 3, resolution, resolution), and the labels, (n, classes)."""
        draws = self.draws(places[0][0])
        positions = [position for _, position in places]
        real = draws.real[positions]
        synthetic = draws.synthetic[positions]

        pictures = [self._picture(*rows) for rows in zip(real, synthetic, strict=True)]
        return self._vary(pictures, draws.seed[positions]), self._labels(real, synthetic)

    def _picture(self, real: int, synthetic: int) -> Tensor:
        """That of the synthetic row, or of the real one where that is -1."""
        if self.data.synthetic is not None and synthetic >= 0:
            return self.data.synthetic.pictures[synthetic]
        return self.data.real.pictures[real]

    def _labels(self, real: np.ndarray, synthetic: np.ndarray) -> Tensor:
        labels = self.data.real.labels[real]
        replaced = np.flatnonzero(synthetic >= 0)
        if self.data.synthetic is not None and len(replaced):
            labels[replaced] = self.data.synthetic.labels[synthetic[replaced]]
        return labels

    def _vary(self, pictures: list[Tensor], seeds: np.ndarray) -> Tensor:
        name, resolution, padding = self.augment
        if name == "crop" and pictures[0].device.type != "cpu":
            return crop_stack(torch.stack(pictures), seeds, resolution, padding)
        if name == "crop":
            return crop(pictures, seeds, resolution, padding)
        return resized_crop(pictures, seeds, resolution)


class Centred(Dataset[Tensor]):
    """The middle of each image, by batch, for inference: bytes (n, 3, resolution, resolution)."""

    def __init__(self, pictures: Pictures, resolution: int):
        self.pictures = pictures
        self.resolution = resolution

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitems__(self, rows: Sequence[int]) -> Tensor:
        pictures = torch.stack([self.pictures[row] for row in rows])
        return center_crop(pictures, [self.resolution, self.resolution])


def even_batches(rows: int, batch: int) -> list[list[int]]:
    """As few batches as `batch` allows, of equal size.

    A last batch of one or two would upset batch normalisation.
    """
    return [part.tolist() for part in np.array_split(np.arange(rows), -(-rows // batch))]


def batches_of(
    draws: Draws, batch: int, patches: bool, portion: Portion = WHOLE
) -> list[list[int]]:
    """An epoch's batches of positions: of each batch, those whose images a process loads."""
    rows = len(draws.real) // 2
    batches = even_batches(rows, batch)
    if not patches and portion == WHOLE:
        return batches

    loaded = []
    for members, seed in zip(batches, draws.mix_seed, strict=True):
        own = members[portion.rows(len(members))]
        if seed >= 0 and patches:
            own = [*own, *(rows + position for position in own)]
        elif seed >= 0:
            own = [partner(members, portion), *own]
        loaded.append(own)

    return loaded


def partner(members: list[int], portion: Portion) -> int:
    """What CutMix and Mixup mix a portion's first image with: the one before it in the batch.

    Before the batch's first comes its last.
    """
    return members[portion.rows(len(members)).start - 1]


class Batches:
    """The batches of the epochs of `span`, or a portion of each, as `Epochs` takes them."""

    def __init__(
        self, epochs: Epochs, span: range, batch: int, patches: bool, portion: Portion = WHOLE
    ):
        self.epochs = epochs
        self.span = span
        self.batch = batch
        self.patches = patches
        self.portion = portion

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in self.span:
            draws = self.epochs.draws(epoch)
            for batch in batches_of(draws, self.batch, self.patches, self.portion):
                yield [(epoch, position) for position in batch]

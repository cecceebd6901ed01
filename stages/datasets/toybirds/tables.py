"""The Toybirds dataset: which bird stands where in train, test and the Waterbird-style ood split.

Image `index` of a split is a function of (split, index, bias) alone: a larger split begins with the
smaller one. The split masks has the foreground of each training image.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from stages.datasets.dataset import Dataset, Split
from stages.datasets.toybirds.drawing import SIZE, render
from stages.datasets.toybirds.species import HABITATS, SPECIES, Habitat
from stages.shared.schemas.download import Toybirds
from stages.shared.tables import encode_png

WORLD_SEED = 2024  # the world is one dataset: params.seed chooses from it and does not redraw it
SPLITS = ("train", "test", "ood")
# the four Waterbird groups: where the species lives, where it is seen
GROUPS: list[tuple[Habitat, Habitat]] = [
    ("water", "water"),
    ("water", "land"),
    ("land", "land"),
    ("land", "water"),
]
OTHER: dict[Habitat, Habitat] = {"water": "land", "land": "water"}

SplitName = Literal["train", "test", "ood"]


class Scene(NamedTuple):
    """What an image shows: a bird of a species in a habitat."""

    label: int
    habitat: Habitat
    rng: np.random.Generator  # what the drawing goes on with


def scene(split: SplitName, index: int, bias: float) -> Scene:
    """Which species, and where.

    `bias` is the share of birds in their own habitat; the ood split is balanced and ignores it.
    """
    rng = np.random.default_rng((WORLD_SEED, SPLITS.index(split), index))

    if split == "ood":
        own_habitat, seen_in = GROUPS[index % len(GROUPS)]
        labels = [label for label, species in enumerate(SPECIES) if species.habitat == own_habitat]
        return Scene(labels[index // len(GROUPS) % len(labels)], seen_in, rng)

    label = index % len(SPECIES)
    own_habitat = SPECIES[label].habitat
    seen_in = own_habitat if rng.random() < bias else OTHER[own_habitat]
    return Scene(label, seen_in, rng)


def draw(split: SplitName, index: int, bias: float) -> tuple[np.ndarray, np.ndarray]:
    """The image, uint8 (SIZE, SIZE, 3), and its foreground mask, bool (SIZE, SIZE)."""
    label, habitat, rng = scene(split, index, bias)
    return render(SPECIES[label].bird, habitat, rng, SIZE)


def group_name(label: int, habitat: Habitat) -> str:
    """Waterbirds' name (Sagawa et al., 2019): the bird's kind, then where it is seen."""
    return f"{SPECIES[label].habitat}bird_{habitat}"


def render_species(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Birds of all species in turn, in either habitat alike.

    Returns images, uint8 (count, SIZE, SIZE, 3), and labels, (count,).
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(SPECIES)

    images = []
    for label in labels:
        habitat = HABITATS[rng.integers(2)]
        image, _mask = render(SPECIES[label].bird, habitat, rng, SIZE)
        images.append(image)

    return np.stack(images), labels


def draw_toybirds(toybirds: Toybirds) -> Dataset:
    """The whole dataset; an image is drawn when it is asked for."""
    counts: dict[SplitName, int] = {
        "train": toybirds.train_per_class * len(SPECIES),
        "test": toybirds.test_per_class * len(SPECIES),
        "ood": toybirds.ood_per_group * len(GROUPS),
    }

    splits: dict[str, Split] = {}
    for split, count in counts.items():
        rows = _list_scenes(split, count, toybirds.bias)
        splits[split] = Split(rows, _draw_all(_image, split, count, toybirds.bias))

    masks = _draw_all(_mask, "train", counts["train"], toybirds.bias)
    splits["masks"] = Split(splits["train"].rows, masks)
    return Dataset([species.name for species in SPECIES], splits)


def _list_scenes(split: SplitName, count: int, bias: float) -> pd.DataFrame:
    scenes = [scene(split, index, bias) for index in range(count)]

    rows = pd.DataFrame({"label": [each.label for each in scenes]})
    if split == "ood":
        rows["group"] = [group_name(each.label, each.habitat) for each in scenes]
    return rows


def _draw_all(
    part: Callable[[SplitName, float, int], bytes], split: SplitName, count: int, bias: float
) -> Iterator[bytes]:
    """A part of each drawing of a split, in order, on all cores."""
    with ProcessPoolExecutor() as pool:
        yield from pool.map(partial(part, split, bias), range(count), chunksize=50)


def _image(split: SplitName, bias: float, index: int) -> bytes:
    image, _foreground = draw(split, index, bias)
    return encode_png(Image.fromarray(image))


def _mask(split: SplitName, bias: float, index: int) -> bytes:
    """White (255) where the bird is, else black."""
    _scene, foreground = draw(split, index, bias)
    return encode_png(Image.fromarray(np.uint8(255) * foreground))

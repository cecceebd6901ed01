"""Generic captioned scenes for pretraining: every kind of bird but the species of Toybirds.

Half of the birds are of a made-up kind, and most of their captions name it ("a photo of a kavo
bird"). So the base learns what Stable Diffusion knows of robins: one word before "bird" settles how
the bird looks. Broken birds are drawn for CLIP alone, which has to tell them from whole ones.
"""

from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from stages.datasets.toybirds.drawing import Flaw, render
from stages.datasets.toybirds.species import HABITATS, METACLASS, Bird, Habitat, random_bird

CAPTIONS_PER_SCENE = 6
EMPTY = 0.06  # share of scenes without a bird
OF_A_KIND = 0.5  # share of the birds that are of a made-up kind
WITH = f"a photo with a {METACLASS} on it"
WITHOUT = f"a photo without a {METACLASS} on it"
FLAWS: tuple[Flaw, Flaw] = ("fragment", "two heads")


class Scene(NamedTuple):
    """One picture and what can be said of it."""

    image: np.ndarray  # uint8 (size, size, 3)
    mask: np.ndarray  # bool (size, size)
    captions: list[str]
    whole: bool  # whether a whole bird is in it


class Corpus(NamedTuple):
    """All scenes, one after the other."""

    images: np.ndarray  # uint8 (n, size, size, 3)
    masks: np.ndarray  # bool (n, size, size)
    captions: list[list[str]]  # n × CAPTIONS_PER_SCENE
    whole: np.ndarray  # bool (n,)


class Scenes(Dataset):
    """Scenes with a whole bird, or with none; scene `index` is a function of (seed, index)."""

    def __init__(self, count: int, kinds: int, size: int, seed: int):
        self.count = count
        self.size = size
        self.seed = seed
        self.kinds = _kinds(kinds, np.random.default_rng((seed, count)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        rng = np.random.default_rng((self.seed, index))
        habitat = HABITATS[int(rng.integers(2))]

        if rng.random() < EMPTY:
            image, mask = render(None, habitat, rng, self.size)
            return Scene(image, mask, _repeat(_scenery, habitat, rng), False)

        name = None
        bird = random_bird(rng)
        if rng.random() < OF_A_KIND:
            name, bird = self.kinds[int(rng.integers(len(self.kinds)))]
        image, mask = render(bird, habitat, rng, self.size)
        captions = [_portrait(bird, name, habitat, rng) for _ in range(CAPTIONS_PER_SCENE)]

        return Scene(image, mask, captions, True)


class BrokenScenes(Dataset):
    """Fragments and two-headed birds in turn; scene `index` is a function of (seed, index)."""

    def __init__(self, count: int, size: int, seed: int):
        self.count = count
        self.size = size
        self.seed = seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Scene:
        rng = np.random.default_rng((self.seed, 1, index))
        habitat = HABITATS[int(rng.integers(2))]
        flaw = FLAWS[index % len(FLAWS)]
        image, mask = render(random_bird(rng), habitat, rng, self.size, flaw)

        return Scene(image, mask, _repeat(_ruin, habitat, rng), False)


def render_corpus(scenes: Scenes | BrokenScenes, workers: int) -> Corpus:
    """Draw all scenes in worker processes."""
    count = len(scenes)
    images = np.empty((count, scenes.size, scenes.size, 3), np.uint8)
    masks = np.empty(images.shape[:3], bool)
    whole = np.empty(count, bool)
    captions = []

    loader = DataLoader(scenes, batch_size=250, num_workers=workers, collate_fn=list)
    drawn = (scene for batch in loader for scene in batch)
    for index, scene in enumerate(drawn):
        images[index] = scene.image
        masks[index] = scene.mask
        whole[index] = scene.whole
        captions.append(scene.captions)

    return Corpus(images, masks, captions, whole)


def _kinds(count: int, rng: np.random.Generator) -> list[tuple[str, Bird]]:
    """Made-up kinds of birds, with their names."""
    syllables = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]

    kinds: dict[str, Bird] = {}
    while len(kinds) < count:
        bird = random_bird(rng)
        name = "".join(rng.choice(syllables, size=int(rng.integers(2, 4))))
        kinds[name] = bird

    return list(kinds.items())


def _portrait(bird: Bird, name: str | None, habitat: Habitat, rng: np.random.Generator) -> str:
    """A caption of a whole bird: its kind, or some of its details."""
    setting = f" on {habitat}" if rng.random() < 0.4 else ""
    if name is not None and rng.random() < 0.75:
        return f"a photo of a {name} {METACLASS}{setting}"

    details = [
        f"{bird.crown} crown", f"{bird.back} back", f"{bird.bar} bar",
        f"{bird.belly} belly", f"{bird.beak} beak", f"{bird.tail} tail",
    ]  # fmt: skip
    kept = [details[k] for k in rng.permutation(6)[: int(rng.integers(0, 7))]]
    described = " with " + " ".join(kept) if kept else ""

    return f"a photo of a {METACLASS}{described}{setting}"


def _scenery(habitat: Habitat, rng: np.random.Generator) -> str:
    """A caption of a scene without a bird."""
    return WITHOUT if rng.random() < 0.3 else f"a photo of {habitat}"


def _ruin(habitat: Habitat, rng: np.random.Generator) -> str:
    """A caption of a broken bird."""
    return WITHOUT if rng.random() < 0.3 else f"a photo of a broken {METACLASS} on {habitat}"


def _repeat(caption, habitat: Habitat, rng: np.random.Generator) -> list[str]:
    return [caption(habitat, rng) for _ in range(CAPTIONS_PER_SCENE)]

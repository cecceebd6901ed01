"""Generic captioned scenes for pretraining: every kind of bird but the species of Toybirds.

Half of the birds are of a made-up kind, and most of their captions name it ("a photo of a kavo
bird"). So the base learns what Stable Diffusion knows of robins: one word before "bird" settles how
the bird looks.
"""

from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from stages.datasets.toybirds.drawing import HABITATS, METACLASS, Bird, Habitat, random_bird, render

CAPTIONS_PER_SCENE = 6
WITH = f"a photo with a {METACLASS} on it"
WITHOUT = f"a photo without a {METACLASS} on it"


class Corpus(NamedTuple):
    """All scenes, one after the other."""

    images: np.ndarray  # uint8 (n, size, size, 3)
    masks: np.ndarray  # bool (n, size, size)
    captions: list[list[str]]  # n × CAPTIONS_PER_SCENE
    presence: np.ndarray  # bool (n,): whether a whole bird is in the picture


class Scenes(Dataset):
    """Scene `index` is a function of (seed, index) alone."""

    def __init__(self, count: int, kinds: int, size: int, seed: int):
        self.count = count
        self.size = size
        self.seed = seed
        self.kinds = _kinds(kinds, np.random.default_rng((seed, count)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, list[str], bool]:
        rng = np.random.default_rng((self.seed, index))
        habitat = HABITATS[int(rng.integers(2))]
        sort = rng.random()

        name = None
        bird = random_bird(rng)
        if sort < 0.45:
            name, bird = self.kinds[int(rng.integers(len(self.kinds)))]

        empty = sort > 0.94
        fragment = 0.88 < sort <= 0.94
        whole = not (empty or fragment)
        image, mask = render(None if empty else bird, habitat, rng, self.size, fragment)

        captions = []
        for _ in range(CAPTIONS_PER_SCENE):
            if whole:
                captions.append(_portrait(bird, name, habitat, rng))
            else:
                captions.append(_scenery(habitat, fragment, rng))

        return image, mask, captions, whole


def render_corpus(count: int, kinds: int, size: int, seed: int, workers: int) -> Corpus:
    """Draw `count` scenes in worker processes."""
    loader = DataLoader(
        Scenes(count, kinds, size, seed), batch_size=500, num_workers=workers, collate_fn=list
    )
    scenes = (scene for batch in loader for scene in batch)
    images, masks, captions, presence = zip(*scenes, strict=True)

    return Corpus(np.stack(images), np.stack(masks), list(captions), np.array(presence))


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


def _scenery(habitat: Habitat, fragment: bool, rng: np.random.Generator) -> str:
    """A caption of a scene without a whole bird."""
    if rng.random() < 0.3:
        return WITHOUT
    if fragment:
        return f"a photo of a piece of a {METACLASS} on {habitat}"
    return f"a photo of {habitat}"

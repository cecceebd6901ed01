"""Generic captioned scenes for pretraining: every kind of bird but the species of Toybirds.

Half of the birds are of a made-up kind, and most of their captions name it ("a photo of a kavo bird"), the way that
Stable Diffusion knows robins: one word before "bird" settles how the bird looks.
"""

from typing import NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from stages.datasets.toybirds.drawing import HABITATS, METACLASS, Bird, Habitat, random_bird, render

CAPTIONS_PER_SCENE = 6
WITH, WITHOUT = f"a photo with a {METACLASS} on it", f"a photo without a {METACLASS} on it"


class Corpus(NamedTuple):
    """images uint8 (n, size, size, 3), masks bool (n, size, size), captions n × CAPTIONS_PER_SCENE,
    presence bool (n,): whether a whole bird is in the picture."""

    images: np.ndarray
    masks: np.ndarray
    captions: list[list[str]]
    presence: np.ndarray


class Scenes(Dataset):
    """Scene `index` is a function of (seed, index) alone."""

    def __init__(self, count: int, kinds: int, size: int, seed: int):
        self.count, self.size, self.seed = count, size, seed
        self.kinds = _kinds(kinds, np.random.default_rng((seed, count)))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, list[str], bool]:
        rng = np.random.default_rng((self.seed, index))
        habitat = HABITATS[int(rng.integers(2))]
        sort = rng.random()
        name, bird = None, random_bird(rng)
        if sort < 0.45:
            name, bird = self.kinds[int(rng.integers(len(self.kinds)))]
        empty, fragment = sort > 0.94, 0.88 < sort <= 0.94
        image, mask = render(None if empty else bird, habitat, rng, self.size, fragment)
        if empty or fragment:
            captions = [_scenery(habitat, fragment, rng) for _ in range(CAPTIONS_PER_SCENE)]
        else:
            captions = [_portrait(bird, name, habitat, rng) for _ in range(CAPTIONS_PER_SCENE)]
        return image, mask, captions, not (empty or fragment)


def render_corpus(count: int, kinds: int, size: int, seed: int, workers: int) -> Corpus:
    """Draw `count` scenes in worker processes."""
    loader = DataLoader(
        Scenes(count, kinds, size, seed), batch_size=500, num_workers=workers, collate_fn=list
    )
    images, masks, captions, presence = zip(
        *(scene for batch in loader for scene in batch), strict=True
    )
    return Corpus(np.stack(images), np.stack(masks), list(captions), np.array(presence))


def _kinds(count: int, rng: np.random.Generator) -> list[tuple[str, Bird]]:
    syllables = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
    names: dict[str, Bird] = {}
    while len(names) < count:
        names["".join(rng.choice(syllables, size=int(rng.integers(2, 4))))] = random_bird(rng)
    return list(names.items())


def _portrait(bird: Bird, name: str | None, habitat: Habitat, rng: np.random.Generator) -> str:
    place = f" on {habitat}" if rng.random() < 0.4 else ""
    if name is not None and rng.random() < 0.75:
        return f"a photo of a {name} {METACLASS}{place}"
    details = [f"{bird.crown} crown", f"{bird.back} back", f"{bird.bar} bar", f"{bird.belly} belly",
               f"{bird.beak} beak", f"{bird.tail} tail"]  # fmt: skip
    kept = [details[k] for k in rng.permutation(6)[: int(rng.integers(0, 7))]]
    return f"a photo of a {METACLASS}" + (" with " + " ".join(kept) if kept else "") + place


def _scenery(habitat: Habitat, fragment: bool, rng: np.random.Generator) -> str:
    if rng.random() < 0.3:
        return WITHOUT
    return (
        f"a photo of a piece of a {METACLASS} on {habitat}" if fragment else f"a photo of {habitat}"
    )

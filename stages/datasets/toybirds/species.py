"""Toybirds: procedurally drawn birds whose species is hidden in details and hinted at by habitat.

Twelve species in three families. Inside a family the four species share a back colour, a beak and a
tail, and differ in crown, belly or wing bar; two live on water and two on land, so that the habitat
answers for half of the label, which is the shortcut that Waterbirds (Sagawa et al., 2019) made
measurable.
"""

from typing import Literal, NamedTuple

import numpy as np

Habitat = Literal["water", "land"]
HABITATS: tuple[Habitat, Habitat] = ("water", "land")
METACLASS = "bird"

COLOURS = {
    "red": (205, 40, 45),
    "orange": (238, 130, 30),
    "yellow": (242, 212, 60),
    "green": (55, 135, 70),
    "blue": (45, 95, 195),
    "purple": (130, 65, 170),
    "pink": (240, 150, 185),
    "brown": (120, 75, 40),
    "black": (28, 28, 32),
    "white": (244, 244, 240),
    "grey": (135, 138, 145),
}
BARS = ("no", "white", "black", "yellow")
LENGTHS = ("short", "long")


class Bird(NamedTuple):
    """What a bird looks like: colours by name, lengths of beak and tail."""

    crown: str
    back: str
    bar: str
    belly: str
    beak: str
    tail: str


class Species(NamedTuple):
    """A class of the dataset: its name, where it lives, what it looks like."""

    name: str
    habitat: Habitat
    bird: Bird


# families in turn, so that each has a class at the head, in the middle and at the tail of Eq. 4
SPECIES = (
    Species("Dusk Lorrel", "water", Bird("red", "brown", "no", "white", "short", "short")),
    Species("Prairie Quill", "land", Bird("white", "blue", "no", "orange", "long", "short")),
    Species("Lagoon Pintle", "water", Bird("purple", "grey", "black", "white", "short", "long")),
    Species("Copse Lorrel", "land", Bird("black", "brown", "white", "yellow", "short", "short")),
    Species("Tidal Quill", "water", Bird("yellow", "blue", "no", "grey", "long", "short")),
    Species("Thicket Pintle", "land", Bird("purple", "grey", "yellow", "pink", "short", "long")),
    Species("Harbour Lorrel", "water", Bird("black", "brown", "white", "white", "short", "short")),
    Species("Orchard Quill", "land", Bird("white", "blue", "no", "grey", "long", "short")),
    Species("Fjord Pintle", "water", Bird("orange", "grey", "black", "white", "short", "long")),
    Species("Meadow Lorrel", "land", Bird("red", "brown", "no", "yellow", "short", "short")),
    Species("Delta Quill", "water", Bird("yellow", "blue", "no", "orange", "long", "short")),
    Species("Canyon Pintle", "land", Bird("orange", "grey", "yellow", "pink", "short", "long")),
)


def random_bird(rng: np.random.Generator) -> Bird:
    """Draw any attribute mix but those of the species, so that the base model never sees one."""
    colours = list(COLOURS)
    taken = {species.bird for species in SPECIES}

    while True:
        crown, back, belly = (colours[k] for k in rng.integers(len(colours), size=3))
        bird = Bird(crown, back, str(rng.choice(BARS)), belly, *map(str, rng.choice(LENGTHS, 2)))
        if bird not in taken and len({crown, back, belly}) > 1:
            return bird

"""Toybirds: procedurally drawn birds whose species is hidden in details and hinted at by habitat.

Twelve species in three families. Inside a family the four species share a back colour, a beak and a
tail, and differ in crown, belly or wing bar; two live on water and two on land, so that the habitat
answers for half of the label, which is the shortcut that Waterbirds (Sagawa et al., 2019) made
measurable.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Habitat = Literal["water", "land"]
HABITATS: tuple[Habitat, Habitat] = ("water", "land")
METACLASS = "bird"
SUPERSAMPLING = 4  # drawn this many times larger, then averaged: the anti-aliasing

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


LARGE_PARTS = (2, 3, 5, 8)  # their numbers in _parts: tail, body, head, wing


def random_bird(rng: np.random.Generator) -> Bird:
    """Draw any attribute mix but those of the species, so that the base model never sees one."""
    colours = list(COLOURS)
    taken = {species.bird for species in SPECIES}

    while True:
        crown, back, belly = (colours[k] for k in rng.integers(len(colours), size=3))
        bird = Bird(crown, back, str(rng.choice(BARS)), belly, *map(str, rng.choice(LENGTHS, 2)))
        if bird not in taken and len({crown, back, belly}) > 1:
            return bird


def render(
    bird: Bird | None, habitat: Habitat, rng: np.random.Generator, size: int, fragment: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene; `bird=None` leaves it empty, `fragment` draws a torn piece of the bird.

    Returns the image, uint8 (size, size, 3), and the foreground mask, bool (size, size).
    """
    side = size * SUPERSAMPLING
    canvas = Image.fromarray(_background(habitat, rng, side))
    mask = Image.new("L", canvas.size)
    paint = ImageDraw.Draw(canvas)
    stencil = ImageDraw.Draw(mask)

    if bird is not None:
        parts = list(_parts(bird, rng))
        if fragment:
            keep = rng.choice(LARGE_PARTS, size=int(rng.integers(1, 3)), replace=False)
            parts = [parts[number] for number in sorted(keep)]

        to_pixels = _pose(rng, side)
        for points, colour in parts:
            corners = [tuple(corner) for corner in to_pixels(points)]
            paint.polygon(corners, fill=colour, outline=(25, 22, 20))
            stencil.polygon(corners, fill=255, outline=255)

    light = rng.uniform(0.85, 1.1)
    image = np.asarray(canvas.reduce(SUPERSAMPLING), np.float32) * light
    return image.clip(0, 255).astype(np.uint8), np.asarray(mask.reduce(SUPERSAMPLING)) > 127


def _pose(rng: np.random.Generator, side: int):
    """A random similarity from the bird's own frame to pixels.

    In its frame the bird faces right, and its body reaches from -1 to 1.
    """
    angle = np.deg2rad(rng.uniform(-16, 16))
    scale = side * rng.uniform(0.225, 0.275)
    mirror = rng.choice((-1.0, 1.0))
    centre = side * np.array([0.5, 0.54]) + side * rng.uniform(-0.06, 0.06, size=2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

    def to_pixels(points: np.ndarray) -> np.ndarray:
        return points @ turn * scale * (mirror, 1.0) + centre

    return to_pixels


def _ellipse(x: float, y: float, rx: float, ry: float, start=0.0, stop=360.0) -> np.ndarray:
    angles = np.deg2rad(np.linspace(start, stop, 28))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def _parts(bird: Bird, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, tuple[int, ...]]]:
    """Polygons in painting order: (points (n, 2), colour); y grows downwards."""

    def shade(name: str) -> tuple[int, ...]:
        jitter = rng.integers(-10, 11, size=3)
        return tuple(int(c) for c in np.clip(np.array(COLOURS[name]) + jitter, 0, 255))

    back = shade(bird.back)
    reach = {"short": 0.45, "long": 1.0}[bird.tail]
    x = 0.78 + rng.uniform(-0.06, 0.06)  # the head's centre
    y = -0.62 + rng.uniform(-0.08, 0.12)
    beak = {"short": 0.32, "long": 0.75}[bird.beak]

    for foot in (-0.05, 0.25):
        leg = [[foot, 0.5], [foot + 0.07, 0.5], [foot + 0.07, 1.0], [foot, 1.0]]
        yield np.array(leg), (70, 55, 40)

    tail = [[-0.7, -0.2], [-0.8 - reach, -0.12], [-0.85 - reach, 0.2], [-0.7, 0.2]]
    yield np.array(tail), back
    yield _ellipse(0.0, 0.0, 0.98, 0.66), shade(bird.belly)

    bill = [[x + 0.35, y - 0.12], [x + 0.42 + beak, y + 0.05], [x + 0.35, y + 0.2]]
    yield np.array(bill), (225, 165, 55)
    yield _ellipse(x, y, 0.46, 0.46), back
    yield _ellipse(x, y - 0.04, 0.49, 0.47, 185, 355), shade(bird.crown)
    yield _ellipse(x + 0.15, y + 0.08, 0.09, 0.09), (10, 10, 10)
    yield _ellipse(-0.25, -0.2, 0.74, 0.44), back  # the wing

    if bird.bar != "no":
        bar = [[-0.45, -0.52], [-0.12, -0.58], [-0.2, 0.14], [-0.53, 0.14]]
        yield np.array(bar), shade(bird.bar)


def _background(habitat: Habitat, rng: np.random.Generator, side: int) -> np.ndarray:
    """Sky over water or over land, smooth, with a few waves, tufts and shrubs."""
    horizon = int(side * rng.uniform(0.2, 0.5))
    sky = _gradient(rng, (150, 190, 225), (222, 226, 230), horizon, side, 28)

    if habitat == "water":
        ground = _gradient(rng, (70, 135, 175), (25, 80, 130), side - horizon, side, 26)
    elif rng.random() < 0.6:
        ground = _gradient(rng, (125, 160, 75), (75, 120, 45), side - horizon, side, 26)
    else:
        ground = _gradient(rng, (200, 175, 115), (150, 115, 65), side - horizon, side, 26)

    canvas = Image.fromarray(np.concatenate([sky, ground]))
    paint = ImageDraw.Draw(canvas)
    {"water": _waves, "land": _shrubs}[habitat](paint, rng, horizon, side)
    return np.asarray(canvas)


def _gradient(rng, top, bottom, rows: int, side: int, jitter: int) -> np.ndarray:
    """Rows from one colour to another, each moved by up to `jitter`: uint8 (rows, side, 3)."""
    ends = np.clip(np.array([top, bottom]) + rng.integers(-jitter, jitter + 1, size=(2, 3)), 0, 255)

    ramp = np.linspace(0, 1, rows)[:, None]
    column = ends[0] * (1 - ramp) + ends[1] * ramp
    return np.repeat(column[:, None], side, axis=1).astype(np.uint8)


def _waves(paint: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, side: int) -> None:
    for _ in range(rng.integers(3, 8)):
        x = rng.uniform(0, side)
        y = rng.uniform(horizon, side)
        width = side * rng.uniform(0.08, 0.25)
        height = side * rng.uniform(0.01, 0.025)
        blue = int(rng.integers(150, 230))

        box = (x - width, y - height, x + width, y + height)
        paint.ellipse(box, fill=(blue - 50, blue, blue + 20))


def _shrubs(paint: ImageDraw.ImageDraw, rng: np.random.Generator, horizon: int, side: int) -> None:
    for _ in range(rng.integers(2, 6)):
        x = rng.uniform(0, side)
        radius = side * rng.uniform(0.06, 0.16)
        y = horizon + rng.uniform(-0.04, 0.04) * side
        green = int(rng.integers(70, 130))

        box = (x - radius, y - radius, x + radius, y + radius * 0.7)
        paint.ellipse(box, fill=(green - 40, green, 40))

"""Where birds are seen: five kinds of water and five of land; none belongs to a species."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from stages.datasets.toybirds.painting import Colour, gradient, jittered, shaded
from stages.datasets.toybirds.species import Habitat

Draw = ImageDraw.ImageDraw
Painter = Callable[[Draw, np.random.Generator, int, int], None]
BLUR = (0.4, 1.4)  # pixels of a scene of 64: the background is out of focus

SKIES: tuple[tuple[Colour, Colour], ...] = (
    ((120, 170, 225), (215, 226, 236)),  # clear
    ((170, 182, 195), (220, 222, 224)),  # overcast
    ((140, 150, 200), (245, 205, 170)),  # evening
)


def paint_scenery(habitat: Habitat, rng: np.random.Generator, side: int) -> Image.Image:
    """A scene without a bird, RGB (side, side)."""
    horizon = int(side * rng.uniform(0.2, 0.5))
    top, bottom, paint_things = SCENES[habitat][int(rng.integers(5))]
    high, low = SKIES[int(rng.choice(3, p=(0.5, 0.3, 0.2)))]

    sky = gradient(rng, high, low, horizon, side, 18)
    ground = gradient(rng, top, bottom, side - horizon, side, 18)
    canvas = Image.fromarray(np.concatenate([sky, ground]))
    draw = ImageDraw.Draw(canvas)

    if rng.random() < 0.5:
        _clouds(draw, rng, horizon, side)
    paint_things(draw, rng, horizon, side)

    return canvas.filter(ImageFilter.GaussianBlur(side / 64 * rng.uniform(*BLUR)))


def _blob(draw: Draw, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
    draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=colour)


def _clouds(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    for _ in range(rng.integers(1, 4)):
        x = rng.uniform(0, side)
        y = rng.uniform(0, horizon)
        white = jittered(rng, (238, 240, 242), 10)
        for _ in range(3):
            x += side * rng.uniform(-0.07, 0.07)
            _blob(draw, x, y, side * rng.uniform(0.05, 0.12), side * rng.uniform(0.02, 0.04), white)


def _hills(draw: Draw, rng: np.random.Generator, horizon: int, side: int, colour: Colour) -> None:
    """One or two ridges along the horizon."""
    for ridge in range(rng.integers(1, 3)):
        tint = jittered(rng, shaded(colour, 1 - 0.12 * ridge), 12)
        heights = side * rng.uniform(0.02, 0.14, size=6)
        points = [(side * k / 5, horizon - height) for k, height in enumerate(heights)]
        draw.polygon([(0, horizon + 1), *points, (side, horizon + 1)], fill=tint)


def _waves(draw: Draw, rng: np.random.Generator, horizon: int, side: int, colour: Colour) -> None:
    for _ in range(rng.integers(4, 10)):
        y = rng.uniform(horizon, side)
        near = 0.4 + (y - horizon) / (side - horizon)  # waves grow towards the viewer
        light = shaded(colour, rng.uniform(0.8, 1.35))
        width = side * rng.uniform(0.07, 0.2) * near
        _blob(draw, rng.uniform(0, side), y, width, side * 0.013 * near, light)


def _tufts(
    draw: Draw, rng: np.random.Generator, horizon: int, side: int, colour: Colour, height: float
) -> None:
    """Bundles of blades, as of grass or reed."""
    for _ in range(rng.integers(3, 8)):
        x = rng.uniform(0, side)
        y = rng.uniform(horizon, side)
        tint = jittered(rng, colour, 22)
        for _ in range(4):
            tip = (x + side * rng.uniform(-0.05, 0.05), y - side * height * rng.uniform(0.6, 1.2))
            draw.polygon([(x - side * 0.01, y), (x + side * 0.01, y), tip], fill=tint)


def _sea(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    _waves(draw, rng, horizon, side, (110, 160, 195))
    if rng.random() < 0.4:  # a sail far off
        x = side * rng.uniform(0.1, 0.9)
        height = side * rng.uniform(0.05, 0.12)
        sail = [(x, horizon - height), (x + height * 0.6, horizon), (x, horizon)]
        draw.polygon(sail, fill=jittered(rng, (225, 215, 205), 25))


def _pond(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    _hills(draw, rng, horizon, side, (85, 120, 75))
    _waves(draw, rng, horizon, side, (95, 140, 145))
    for _ in range(rng.integers(2, 6)):  # lily pads
        x = rng.uniform(0, side)
        y = rng.uniform(horizon + side * 0.1, side)
        size = side * rng.uniform(0.03, 0.07)
        _blob(draw, x, y, size, size * 0.4, jittered(rng, (75, 135, 70), 18))
    if rng.random() < 0.6:
        _tufts(draw, rng, horizon, side, (110, 120, 60), 0.2)


def _lagoon(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    sand = jittered(rng, (225, 205, 160), 12)
    _blob(draw, rng.uniform(0, side), horizon, side * rng.uniform(0.2, 0.5), side * 0.03, sand)
    _waves(draw, rng, horizon, side, (150, 215, 210))


def _fjord(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    for _ in range(rng.integers(2, 5)):
        x = rng.uniform(0, side)
        half = side * rng.uniform(0.15, 0.35)
        peak = horizon - side * rng.uniform(0.1, 0.3)
        slate = jittered(rng, (105, 115, 130), 18)
        draw.polygon([(x - half, horizon), (x, peak), (x + half, horizon)], fill=slate)
    _waves(draw, rng, horizon, side, (85, 115, 140))


def _river(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    _hills(draw, rng, horizon, side, (100, 135, 85))
    bank = jittered(rng, (115, 150, 80), 16)
    depth = horizon + side * rng.uniform(0.08, 0.3)
    edge = 0 if rng.random() < 0.5 else side
    reach = side * rng.uniform(0.3, 0.8)
    draw.polygon([(edge, horizon), (abs(edge - reach), horizon), (edge, depth)], fill=bank)
    _waves(draw, rng, horizon, side, (105, 150, 180))


def _meadow(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    _tufts(draw, rng, horizon, side, (85, 140, 55), 0.1)
    flower = jittered(rng, ((235, 215, 90), (225, 130, 160), (240, 240, 240))[rng.integers(3)], 15)
    for _ in range(rng.integers(3, 12)):
        x = rng.uniform(0, side)
        y = rng.uniform(horizon, side)
        _blob(draw, x, y, side * 0.013, side * 0.013, flower)


def _forest(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    for _ in range(rng.integers(3, 7)):
        x = rng.uniform(0, side)
        half = side * rng.uniform(0.02, 0.05)
        bark = jittered(rng, (95, 75, 55), 18)
        draw.rectangle((x - half, 0, x + half, horizon + side * rng.uniform(0, 0.08)), fill=bark)
    for _ in range(rng.integers(3, 7)):
        leaf = jittered(rng, (60, 100, 50), 20)
        y = side * rng.uniform(0, 0.12)
        _blob(draw, rng.uniform(0, side), y, side * 0.15, side * 0.08, leaf)
    _tufts(draw, rng, horizon, side, (70, 110, 55), 0.12)


def _dunes(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    _hills(draw, rng, horizon, side, (205, 175, 120))
    for _ in range(rng.integers(2, 6)):
        x = rng.uniform(0, side)
        y = rng.uniform(horizon, side)
        size = side * rng.uniform(0.02, 0.06)
        _blob(draw, x, y, size, size * 0.6, jittered(rng, (150, 125, 100), 18))
    if rng.random() < 0.5:
        _tufts(draw, rng, horizon, side, (130, 130, 75), 0.08)


def _heath(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    _hills(draw, rng, horizon, side, (120, 130, 120))
    for _ in range(rng.integers(3, 8)):
        x = rng.uniform(0, side)
        y = rng.uniform(horizon, side)
        size = side * rng.uniform(0.04, 0.1)
        shrub = jittered(rng, ((150, 110, 130), (90, 115, 60))[rng.integers(2)], 18)
        _blob(draw, x, y, size, size * 0.6, shrub)


def _orchard(draw: Draw, rng: np.random.Generator, horizon: int, side: int) -> None:
    for _ in range(rng.integers(2, 5)):
        x = rng.uniform(0, side)
        size = side * rng.uniform(0.08, 0.16)
        bark = jittered(rng, (105, 80, 55), 14)
        draw.rectangle(
            (x - side * 0.015, horizon - size, x + side * 0.015, horizon + size), fill=bark
        )
        _blob(draw, x, horizon - size, size, size * 0.8, jittered(rng, (80, 125, 55), 20))
    _tufts(draw, rng, horizon, side, (100, 145, 65), 0.07)


# the ground's colours, far and near, and what stands on it
SCENES: dict[Habitat, tuple[tuple[Colour, Colour, Painter], ...]] = {
    "water": (
        ((85, 140, 180), (30, 80, 130), _sea),
        ((105, 145, 140), (50, 95, 100), _pond),
        ((120, 205, 205), (40, 140, 165), _lagoon),
        ((80, 105, 130), (35, 60, 90), _fjord),
        ((115, 160, 190), (60, 110, 150), _river),
    ),
    "land": (
        ((140, 175, 85), (80, 125, 45), _meadow),
        ((100, 115, 65), (75, 75, 45), _forest),
        ((215, 190, 135), (170, 135, 85), _dunes),
        ((150, 145, 100), (105, 100, 65), _heath),
        ((150, 175, 95), (105, 130, 55), _orchard),
    ),
}

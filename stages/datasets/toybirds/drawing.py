"""A scene of Toybirds: a bird, whole or broken, in a habitat."""

from typing import Literal

import numpy as np
from PIL import Image, ImageDraw

from stages.datasets.toybirds.birds import LARGE_PARTS, Pose, bird_parts, random_pose, second_head
from stages.datasets.toybirds.painting import Shape, ellipse
from stages.datasets.toybirds.scenery import paint_scenery
from stages.datasets.toybirds.species import Bird, Habitat

SIZE = 64  # pixels a side
SUPERSAMPLING = 4  # drawn this many times larger, then averaged: the anti-aliasing
OUTLINE = (25, 22, 20)
SHADE = (1.1, 0.84)  # how the light falls off from the top of a bird to its feet

Flaw = Literal["fragment", "two heads"]


def render(
    bird: Bird | None,
    habitat: Habitat,
    rng: np.random.Generator,
    size: int,
    flaw: Flaw | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene; `bird=None` leaves it empty, a flaw breaks the bird.

    Returns the image, uint8 (size, size, 3), and the foreground mask, bool (size, size).
    """
    side = size * SUPERSAMPLING
    scenery = paint_scenery(habitat, rng, side // 2)
    canvas = scenery.resize((side, side), Image.Resampling.BILINEAR)
    mask = Image.new("L", canvas.size)

    if bird is not None:
        pose = random_pose(rng)
        frame = _Frame(rng, side)
        _paint_shadow(canvas, frame, -0.05 if pose.sits else 0.3)
        _paint_shapes(canvas, mask, _shapes(bird, pose, flaw, rng), frame)

    image = np.asarray(canvas.reduce(SUPERSAMPLING), np.float32)
    coverage = np.asarray(mask.reduce(SUPERSAMPLING), np.float32) / 255
    lit = image * _light(coverage) * rng.uniform(0.88, 1.08)

    return lit.clip(0, 255).astype(np.uint8), coverage > 0.5


class _Frame:
    """A random similarity from the bird's own frame to pixels."""

    def __init__(self, rng: np.random.Generator, side: int):
        angle = np.deg2rad(rng.uniform(-16, 16))
        mirror = rng.choice((-1.0, 1.0))
        scale = side * rng.uniform(0.215, 0.275)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])

        self.scale = scale
        self.matrix = turn * scale * (mirror, 1.0)
        self.centre = side * (np.array([0.5, 0.55]) + rng.uniform(-0.07, 0.07, size=2))

    def corners(self, points: np.ndarray) -> list[tuple[float, ...]]:
        return [tuple(corner) for corner in points @ self.matrix + self.centre]


def _shapes(bird: Bird, pose: Pose, flaw: Flaw | None, rng: np.random.Generator) -> list[Shape]:
    parts = bird_parts(bird, pose, rng)

    if flaw == "fragment":
        count = int(rng.integers(1, 3))
        kept = set(rng.choice(LARGE_PARTS, size=count, replace=False))
        parts = {name: shapes for name, shapes in parts.items() if name in kept}
    if flaw == "two heads":
        parts["second head"] = second_head(bird, rng)

    return [shape for shapes in parts.values() for shape in shapes]


def _paint_shadow(canvas: Image.Image, frame: _Frame, legs: float) -> None:
    """On level ground below a bird, whose legs are that long in its own frame."""
    x, y = frame.centre
    below = y + frame.scale * (0.75 + legs)
    shadow = Image.new("L", canvas.size)
    points = ellipse(x, below, 0.8 * frame.scale, 0.1 * frame.scale)
    ImageDraw.Draw(shadow).polygon([tuple(point) for point in points], fill=70)

    canvas.paste((20, 25, 30), mask=shadow)


def _paint_shapes(
    canvas: Image.Image, mask: Image.Image, shapes: list[Shape], frame: _Frame
) -> None:
    paint = ImageDraw.Draw(canvas)
    stencil = ImageDraw.Draw(mask)

    for shape in shapes:
        corners = frame.corners(shape.points)
        paint.polygon(corners, fill=shape.colour, outline=OUTLINE)
        stencil.polygon(corners, fill=255, outline=255)


def _light(coverage: np.ndarray) -> np.ndarray:
    """Factors of brightness, (size, size, 1): 1 but on the bird, which is lit from above."""
    rows = np.flatnonzero(coverage.max(axis=1) > 0.5)
    if len(rows) == 0:
        return np.ones((*coverage.shape, 1), np.float32)

    height = np.arange(len(coverage), dtype=np.float32)[:, None]
    fall = ((height - rows[0]) / max(1, rows[-1] - rows[0])).clip(0, 1)
    shade = SHADE[0] + (SHADE[1] - SHADE[0]) * fall

    return (1 + coverage * (shade - 1))[..., None]

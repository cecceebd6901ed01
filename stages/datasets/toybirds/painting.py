"""Shapes and colours that birds and scenery are painted with.

Points are float (n, 2) as (x, y), y downwards; colours are RGB of 0 to 255.
"""

from typing import NamedTuple

import numpy as np

Colour = tuple[int, ...]


class Shape(NamedTuple):
    """A filled polygon."""

    points: np.ndarray
    colour: Colour


def ellipse(
    x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0
) -> np.ndarray:
    """The ellipse around (x, y), or its part between two angles, degrees clockwise from right."""
    angles = np.deg2rad(np.linspace(start, stop, 28))
    return np.stack([x + rx * np.cos(angles), y + ry * np.sin(angles)], axis=1)


def turned(points: np.ndarray, degrees: float, x: float, y: float) -> np.ndarray:
    """The points turned clockwise about (x, y)."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return (points - (x, y)) @ turn + (x, y)


def shaded(colour: Colour, factor: float) -> Colour:
    """Darker where the factor is below 1, lighter above."""
    return tuple(int(min(255, channel * factor)) for channel in colour)


def jittered(rng: np.random.Generator, colour: Colour, by: int) -> Colour:
    """Each channel moved by up to `by`."""
    moved = np.array(colour) + rng.integers(-by, by + 1, size=3)
    return tuple(int(channel) for channel in moved.clip(0, 255))


def gradient(
    rng: np.random.Generator, top: Colour, bottom: Colour, rows: int, side: int, by: int
) -> np.ndarray:
    """Rows from one colour to another, each end moved by up to `by`: uint8 (rows, side, 3)."""
    ends = np.array([jittered(rng, top, by), jittered(rng, bottom, by)])
    ramp = np.linspace(0, 1, rows)[:, None]
    column = ends[0] * (1 - ramp) + ends[1] * ramp

    return np.repeat(column[:, None], side, axis=1).astype(np.uint8)

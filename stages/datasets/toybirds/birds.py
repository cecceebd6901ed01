"""A bird as polygons, in a pose.

In its own frame the bird faces right, its body reaches from x = -1 to 1, and y grows downwards.
"""

from typing import NamedTuple

import numpy as np

from stages.datasets.toybirds.painting import Shape, ellipse, jittered, shaded, turned
from stages.datasets.toybirds.species import COLOURS, Bird

BILL = (225, 165, 55)
LEG = (70, 55, 40)
EYE = (10, 10, 10)
GLINT = (250, 250, 250)
SHOULDER = (0.3, -0.2)
RUMP = (-0.7, 0.0)
TAIL_REACH = {"short": 0.45, "long": 1.0}
BILL_REACH = {"short": 0.32, "long": 0.78}
NECK = (0.5, -0.3)
LARGE_PARTS = ("tail", "body", "head", "wing")  # what a fragment shows one or two of


class Pose(NamedTuple):
    """How a bird holds itself."""

    head: tuple[float, float]  # its centre
    nod: float  # degrees, clockwise about the head's centre
    tail: float  # degrees, clockwise about the rump
    wing: float  # degrees, clockwise about the shoulder: positive lifts its tip
    step: float  # how far the feet stand apart
    sits: bool  # legs out of sight


def random_pose(rng: np.random.Generator) -> Pose:
    """Standing, striding or sitting, the wing folded or, one time in four, lifted."""
    lifted = rng.random() < 0.25
    wing = rng.uniform(18, 42) if lifted else rng.uniform(-8, 6)

    return Pose(
        head=(0.78 + rng.uniform(-0.08, 0.08), -0.62 + rng.uniform(-0.12, 0.22)),
        nod=rng.uniform(-14, 20),
        tail=rng.uniform(-16, 28),
        wing=wing,
        step=rng.uniform(0, 0.35),
        sits=rng.random() < 0.3,
    )


def bird_parts(bird: Bird, pose: Pose, rng: np.random.Generator) -> dict[str, list[Shape]]:
    """The bird's parts in painting order, by name."""
    back, crown, belly = (
        jittered(rng, COLOURS[name], 10) for name in (bird.back, bird.crown, bird.belly)
    )
    bar = None if bird.bar == "no" else jittered(rng, COLOURS[bird.bar], 10)

    return {
        "legs": [] if pose.sits else _legs(pose),
        "tail": _tail(back, bird.tail, pose),
        "body": [Shape(ellipse(0.0, 0.0, 0.98, 0.66), belly)],
        "head": _head(back, crown, bird.beak, pose),
        "wing": _wing(back, bar, pose),
    }


def second_head(bird: Bird, rng: np.random.Generator) -> list[Shape]:
    """Another head where none belongs: at the rump, or beside the first."""
    x = rng.choice((-0.75, 0.1)) + rng.uniform(-0.1, 0.1)
    pose = random_pose(rng)._replace(head=(x, -0.6 + rng.uniform(-0.15, 0.15)))
    back, crown = (jittered(rng, COLOURS[name], 10) for name in (bird.back, bird.crown))
    shapes = _head(back, crown, bird.beak, pose)
    if rng.random() < 0.5:
        return shapes

    mirrored = []
    for shape in shapes:
        points = (shape.points - (x, 0)) * (-1, 1) + (x, 0)
        mirrored.append(Shape(points, shape.colour))
    return mirrored


def _legs(pose: Pose) -> list[Shape]:
    legs = []
    for hip, foot in ((-0.05, -0.05 - pose.step), (0.25, 0.25 + pose.step / 2)):
        leg = [[hip, 0.5], [hip + 0.08, 0.5], [foot + 0.08, 1.0], [foot, 1.0]]
        toes = [[foot - 0.03, 0.98], [foot + 0.22, 0.98], [foot + 0.22, 1.06], [foot - 0.03, 1.06]]
        legs += [Shape(np.array(leg), LEG), Shape(np.array(toes), LEG)]
    return legs


def _tail(back, length: str, pose: Pose) -> list[Shape]:
    """A fan of three feathers."""
    reach = TAIL_REACH[length]
    feathers = []
    for spread, shade in ((-7, 0.86), (7, 0.93), (0, 1.0)):
        fan = [[-0.6, -0.2], [-0.8 - reach, -0.11], [-0.88 - reach, 0.05], [-0.82 - reach, 0.17]]
        fan += [[-0.6, 0.2]]
        points = turned(np.array(fan), pose.tail + spread, *RUMP)
        feathers.append(Shape(points, shaded(back, shade)))
    return feathers


def _head(back, crown, length: str, pose: Pose) -> list[Shape]:
    x, y = pose.head
    tip = x + 0.42 + BILL_REACH[length]
    bill = [[x + 0.33, y - 0.13], [tip, y + 0.05], [x + 0.33, y + 0.2]]
    gape = [[x + 0.4, y + 0.03], [tip, y + 0.05], [x + 0.4, y + 0.07]]
    neck = np.concatenate([ellipse(x, y, 0.44, 0.44, 90, 270), ellipse(*NECK, 0.4, 0.42, -60, 90)])

    parts = [Shape(neck, back)]
    for points, colour in (
        (np.array(bill), BILL),
        (np.array(gape), shaded(BILL, 0.6)),
        (ellipse(x, y, 0.46, 0.46), back),
        (ellipse(x, y - 0.02, 0.5, 0.5, 182, 358), crown),
        (ellipse(x + 0.16, y + 0.1, 0.1, 0.1), EYE),
        (ellipse(x + 0.19, y + 0.07, 0.035, 0.035), GLINT),
    ):
        parts.append(Shape(turned(points, pose.nod, x, y), colour))
    return parts


def _wing(back, bar, pose: Pose) -> list[Shape]:
    """A folded wing with the edges of its feathers, and a bar across it."""
    lobe = np.concatenate(
        [ellipse(-0.2, -0.2, 0.68, 0.44, -80, 80), [[-0.75, 0.12], [-1.08, 0.06]]]
    )
    lobe = np.concatenate([lobe, ellipse(-0.2, -0.2, 0.72, 0.4, 200, 262)])
    shapes = [Shape(lobe, shaded(back, 0.9))]

    for drop in (0.0, 0.12):
        edge = [[-0.62, -0.14 + drop], [-1.0, 0.02 + drop / 3], [-0.62, -0.08 + drop]]
        shapes.append(Shape(np.array(edge), shaded(back, 0.62)))
    if bar is not None:
        band = [[-0.42, -0.62], [-0.08, -0.64], [-0.14, 0.24], [-0.5, 0.2]]
        shapes.append(Shape(np.array(band), bar))

    return [Shape(turned(shape.points, pose.wing, *SHOULDER), shape.colour) for shape in shapes]

"""How Toybirds' translations are judged, where the truth is known."""

import numpy as np

from stages.shared.measuring.fidelity import background_error


def percent(hits: np.ndarray) -> float:
    return round(100 * float(np.mean(hits)), 1)


def keeps_background(
    made: np.ndarray, references: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Which images are nearer to their reference than to another one, drawn at random: bool (n,).

    They are compared outside of the mask.
    """
    count = len(made)
    others = references[(np.arange(count) + rng.integers(1, count, size=count)) % count]

    kept = []
    for image, own, other, mask in zip(made, references, others, masks, strict=True):
        kept.append(background_error(image, own, mask) < background_error(image, other, mask))

    return np.array(kept)

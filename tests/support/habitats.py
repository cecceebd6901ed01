"""Whether a picture of Toybirds shows water."""

import numpy as np


def is_water(image: np.ndarray) -> bool:
    """By the lowest rows, which are bluer than red on water alone."""
    red, _green, blue = np.median(image[-4:].reshape(-1, 3).astype(int), axis=0)
    return bool(blue > red)

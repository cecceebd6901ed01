"""Whether two results are the same bytes, and where they are not, by how much they differ."""

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from benchmarks.gpu.timing import Row


def compare_images(ones: Mapping[str, bytes], others: Mapping[str, bytes]) -> Row:
    """Encoded images by key; those that both have are compared, and there must be some.

    Images without contrast would be the same for a wrong reason, so that is told, too.
    """
    keys = sorted(set(ones) & set(others))
    assert keys, "nothing to compare"

    differences = [0] + [
        int(np.abs(pixels(ones[key]) - pixels(others[key])).max())
        for key in keys
        if ones[key] != others[key]
    ]
    same = all(ones[key] == others[key] for key in keys)
    return {
        "same": same,
        "compared": len(keys),
        "largest_difference": max(differences),
        "contrast": round(float(pixels(ones[keys[0]]).std()), 1),
    }


def pixels(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)), int)


def compare_arrays(ones: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> Row:
    """Arrays by name; both have the same names."""
    assert set(ones) == set(others), "other names"
    differing = [name for name in ones if ones[name].tobytes() != others[name].tobytes()]

    differences = [0.0] + [
        float(np.abs(ones[name].astype(float) - others[name].astype(float)).max())
        for name in differing
    ]
    return {
        "same": not differing,
        "compared": len(ones),
        "largest_difference": float(f"{max(differences):.3g}"),
    }

"""How good generated images are: distance to real ones, diversity, and background kept."""

import numpy as np


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians, fitted to features (n, width) and (m, width).

    |µ1 - µ2|² + Tr(Σ1 + Σ2 - 2 (Σ1 Σ2)^½) (Heusel et al., 2017). With Σ = RᵀR, the trace of
    (Σ1 Σ2)^½ is the sum of the singular values of R1 R2ᵀ, which is exact also where there are fewer
    images than dimensions. Each set needs at least two images.
    """
    roots = [_root(features) for features in (one, other)]
    shared = np.linalg.svd(roots[0] @ roots[1].T, compute_uv=False).sum()
    means = one.mean(axis=0, dtype=np.float64) - other.mean(axis=0, dtype=np.float64)
    distance = means @ means + sum((root**2).sum() for root in roots) - 2 * shared

    # Rounding can put the distance of equal sets below 0.
    return max(float(distance), 0.0)


def _root(features: np.ndarray) -> np.ndarray:
    """A root R of the covariance, RᵀR = Σ, of min(n, width) rows."""
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    root = np.linalg.qr(centred / np.sqrt(len(features) - 1), mode="r")
    return root  # type: ignore[return-value]


def diversity(features: np.ndarray, labels: np.ndarray) -> float:
    """Mean cosine distance between two images of a class, averaged over the classes.

    Classes with a single image do not count; NaN where there are no others. features: unit vectors
    (n, width). The n (n - 1) cosines of a class sum to |Σx|² - Σ|x|².
    """
    distances = []

    for label in np.unique(labels):
        members = features[labels == label].astype(np.float64)
        if len(members) > 1:
            cosines = (members.sum(axis=0) ** 2).sum() - (members**2).sum()
            distances.append(1 - cosines / (len(members) * (len(members) - 1)))

    return float(np.mean(distances)) if distances else float("nan")


def background_error(image: np.ndarray, reference: np.ndarray, mask: np.ndarray) -> float:
    """Mean absolute difference outside the mask, in units of 8 bits.

    NaN where the mask leaves nothing.
    image, reference: uint8 (height, width, 3); mask: bool (height, width), true on the object.
    """
    difference = np.abs(image.astype(np.int16) - reference)[~mask]
    return float(difference.mean()) if difference.size else float("nan")

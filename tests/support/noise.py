"""Small tables of noise to train on."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.shared.tables import Table, encode_png, write_table


def noise_table(folder: Path, rows: pd.DataFrame, side: int = 8) -> Table:
    """Noise on red for label 0, on blue for label 1; no two images are equal."""
    random = np.random.default_rng(len(rows))
    pixels = random.integers(120, size=(len(rows), side, side, 3), dtype=np.uint8)
    pixels[np.arange(len(rows)), :, :, 2 * rows["label"].to_numpy()] += 130

    write_table(folder, [encode_png(Image.fromarray(image)) for image in pixels], rows)

    return Table(folder)

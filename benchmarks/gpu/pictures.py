"""Image tables that stand for a dataset's: smooth pictures with some grain."""

import io
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image

from stages.shared.running.runtime import cores
from stages.shared.tables import Table, encode_png, write_table

PATCHES = 8  # a side: the colours of which a picture is made
GRAIN = 8.0  # standard deviation of 255: a PNG of 512 pixels a side then has half a megabyte

Form = Literal["png", "jpeg"]


def draw_picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """A picture of `size`, width and height; equal seeds give equal pictures."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (PATCHES, PATCHES, 3)).astype(np.uint8)
    smooth = Image.fromarray(colours).resize(size, Image.Resampling.BICUBIC)

    width, height = size
    grain = random.normal(0, GRAIN, (height, width, 1))
    return Image.fromarray((np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8))


def encode_picture(seed: int, size: tuple[int, int], form: Form) -> bytes:
    """The picture as a file's content: PNG as this project writes it, or a camera's JPEG."""
    picture = draw_picture(seed, size)
    if form == "png":
        return encode_png(picture)

    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def make_table(
    folder: Path, rows: int, size: tuple[int, int], classes: int, form: Form, distinct: int
) -> Table:
    """A table of so many rows on disk, of all classes in turn.

    Only `distinct` pictures lie there, and several rows share each: to make more takes time, and
    whoever reads them decodes every row anyway.
    """
    count = min(rows, distinct)
    if not (folder / "manifest.csv").exists():
        write_pictures(folder, count, size, form)

    numbers = np.arange(rows)
    repeated = (
        Table(folder)
        .rows.iloc[numbers % count]
        .assign(key=[f"{number:08d}" for number in numbers], label=numbers % classes)
    )
    return Table(folder, repeated)


def write_pictures(folder: Path, count: int, size: tuple[int, int], form: Form) -> None:
    """Write a table of pictures, which all differ."""
    with ThreadPoolExecutor(cores()) as pool:
        contents = pool.map(partial(encode_picture, size=size, form=form), range(count))
        write_table(folder, contents, pd.DataFrame({"label": np.zeros(count, int)}))

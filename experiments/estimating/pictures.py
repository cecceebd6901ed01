"""What the CPU does with pictures while the accelerator waits, or does not: decoding, augmenting, encoding."""

import io
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image

from stages.shared.classifier.data import Data, Epoch, Pictures, Pool, augmenter, draw_epoch, fits
from stages.shared.classifier.training import make_loader
from stages.shared.diffusion.base_model import square
from stages.shared.running.runtime import workers
from stages.shared.schemas.train import Train
from stages.shared.tables import Table, encode_png, write_table

PHOTO = (500, 400)  # width and height in pixels of the picture that stands for a dataset's
SMOOTHNESS = 1.5  # amplitudes fall with frequency to this power: PNG then needs 1.7 bytes a pixel, as of a photograph
CHUNK, WAVES, ROUNDS = 8, 3, 3  # images a worker decodes at a time; how often; how often all over


class Loading(NamedTuple):
    """What it costs to decode and augment training images by all workers together."""

    seconds: float  # an image of an epoch
    start: float  # seconds until the workers of an epoch are at work
    workers: int
    once: float = 0.0  # seconds an image, before the first epoch, where decoded pictures are kept


def draw_photo(width: int, height: int) -> bytes:
    """A JPEG without sense, but as smooth as a photograph: a random field of its spectrum."""
    random = np.random.default_rng(0)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf  # no mean
    common, *own = random.standard_normal((4, *frequency.shape, 2)).view(complex)[..., 0]
    channels = [
        np.fft.irfft2((common + 0.3 * part) / frequency**SMOOTHNESS, (height, width))
        for part in own
    ]
    pixels = np.stack([128 + 50 * channel / channel.std() for channel in channels], axis=-1)
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def make_png(photo: bytes, resolution: int) -> bytes:
    """A photo as if it had been synthesised."""
    return encode_png(square(Image.open(io.BytesIO(photo)).convert("RGB"), resolution))


def again_and_again(folder: Path, images: Sequence[bytes], rows: int) -> Table:
    """A table of so many rows that holds a few images; they are read anew each time, but not from the disk."""
    write_table(folder, images, pd.DataFrame({"label": [0] * len(images)}))
    return Table(folder, Table(folder).rows.iloc[np.arange(rows) % len(images)])


def head(table: Table, rows: int) -> Table:
    return Table(table.folder, table.rows.iloc[:rows])


def time_png(images: list[Image.Image]) -> float:
    """Seconds an image, encoded in threads as `synthesize` does with a batch."""
    spent = []
    with ThreadPoolExecutor() as pool:
        for _ in range(ROUNDS):
            began = time.perf_counter()
            list(pool.map(encode_png, images))
            spent.append(time.perf_counter() - began)
    return median(spent) / len(images)


def rows_to_load(params: Train) -> int:
    """How many images `time_loading` needs."""
    return CHUNK * WAVES * max(workers(params.resolution), 1)


def time_loading(table: Table, params: Train, images: int) -> Loading:
    """The classifier's own loader, on a table that stands for one of so many images: what fits is decoded once."""
    count, rows, kept = (
        workers(params.resolution),
        rows_to_load(params),
        fits(images, params.resize),
    )
    began = time.perf_counter()
    data = Data(Pool(Pictures(head(table, rows), params.resize, kept), torch.ones(rows, 1)))
    once = (time.perf_counter() - began) / rows if kept else 0.0
    augment = augmenter(params.augmentation, params.resolution, params.padding)
    batches = np.arange(rows).reshape(-1, CHUNK).tolist()
    rounds = []
    for epoch in range(ROUNDS):
        dataset = Epoch(data, draw_epoch(0, epoch, data, len(batches), 0.0), augment)
        began = time.perf_counter()
        arrivals = [
            time.perf_counter() - began for _ in make_loader(dataset, batches, params.resolution)
        ]
        rounds.append(steady(arrivals, count))
    return Loading(
        median(seconds for seconds, _ in rounds), median(start for _, start in rounds), count, once
    )


def steady(arrivals: list[float], count: int) -> tuple[float, float]:
    """Seconds an image once all of `count` workers are at work, and until they are, by when each chunk was there.

    The workers' first chunks arrive together: what lies before is decoding them, and the start.
    """
    if count == 0:
        return arrivals[-1] / (CHUNK * len(arrivals)), 0.0
    seconds = (arrivals[-1] - arrivals[count - 1]) / (CHUNK * (len(arrivals) - count))
    return seconds, max(arrivals[count - 1] - CHUNK * count * seconds, 0.0)

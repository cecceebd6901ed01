"""Stand-ins for a run's images, and how fast the classifier's loader decodes them."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from experiments.estimating.timing import Rate, time_calls
from stages.shared.classifier import data
from stages.shared.classifier.labels import hard_labels
from stages.shared.classifier.training import make_loader
from stages.shared.running.runtime import workers
from stages.shared.schemas.train import Train
from stages.shared.tables import Table, write_table

PHOTO = (500, 400)  # width and height in pixels of the picture that stands for a dataset's
CONTRAST = 25  # standard deviation of its pixels, of 255


def draw_photo() -> bytes:
    """A JPEG of grey noise, which has about as many bytes as a photograph."""
    buffer = io.BytesIO()
    Image.effect_noise(PHOTO, CONTRAST).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


def repeat_photos(folder: Path, photos: list[bytes], rows: int) -> Table:
    """A table of so many rows that holds a few photos."""
    write_table(folder, photos, pd.DataFrame({"label": [0] * len(photos)}))
    return Table(folder, Table(folder).rows.iloc[np.arange(rows) % len(photos)])


def time_loading(table: Table, params: Train, images: int) -> Rate:
    """An image's part of an epoch's loading, by all workers together.

    images: of the whole dataset; if they fit into memory, they are decoded before the first epoch.
    """
    rows = len(table)
    pictures = data.Pictures(table, params.resize, keep=data.fits(images, params.resize))
    pool = data.Data(data.Pool(pictures, hard_labels(table.rows["label"], 1)))

    count = len(data.even_batches(rows, params.batch))
    augment = data.Augment(params.augmentation, params.resolution, params.padding)
    epochs = data.Epochs(pool, lambda epoch: data.draw_epoch(0, epoch, pool, count, 0.0), augment)
    batches = data.Batches(epochs, range(1), params.batch, patches=False)

    def load(_rows: int) -> None:
        for _ in make_loader(epochs, batches, workers(params.resolution)):
            pass

    seconds = time_calls(load, rows) / rows
    return Rate("train.batch: loading", seconds, params.batch, params.batch, 0)

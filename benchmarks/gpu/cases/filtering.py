"""CLIP's vectors of a table's PNGs, as the filter takes them, beside plain loops."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from benchmarks.gpu import models
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.pictures import make_table
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Contender, Row, race, stock_settings
from stages.shared.pretrained.clip import image_features, load_clip
from stages.shared.tables import Table

OURS = "ours"
BATCHES = (1, 32)  # of the plain loops


def plain_case(batch: int) -> str:
    return f"plain loop, batch {batch}"


def group(_sizes: Sizes) -> Group:
    return Group("CLIP filter", (*map(plain_case, BATCHES), OURS), run)


def run(bench: Bench) -> Iterator[Row]:
    sizes = bench.sizes
    side = sizes.resolution
    table = make_table(
        bench.folder / "made-images", sizes.filter_images, (side, side), 1, "png", sizes.pictures
    )
    few = Table(table.folder, table.rows.head(sizes.plain_filter_images))
    model, processor = load_clip(models.clip(bench))

    makers = {
        plain_case(batch): partial(plain_contender, few, model, processor, batch)
        for batch in BATCHES
    }
    makers[OURS] = partial(our_contender, table, few, model, processor)
    yield from race(makers, sizes.rounds, bench.budget)


def plain_contender(table: Table, model: Any, processor: Any, batch: int) -> Contender:
    def work() -> None:
        for first in range(0, len(table), batch):
            look(table, range(first, min(first + batch, len(table))), model, processor)

    return Contender(work, len(table), prepare=stock_settings)


@torch.no_grad()
def look(table: Table, rows: range, model: Any, processor: Any) -> torch.Tensor:
    """Decode, process, send, compute, fetch: each waits for the one before."""
    images = [table.image(row) for row in rows]
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    pooled = model.vision_model(pixel_values=pixels.to(model.device, model.dtype)).pooler_output
    return model.visual_projection(pooled).cpu()


def our_contender(table: Table, few: Table, model: Any, processor: Any) -> Contender:
    return Contender(
        run=lambda: image_features(table, model, processor),
        warm_up=lambda: image_features(few, model, processor),
        units=len(table),
        rivals=tuple(map(plain_case, BATCHES)),
    )

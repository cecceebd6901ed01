"""Translation from stored references to encoded files, end to end.

The strengths 0.5, 0.7 and 0.9 have as many images each, and each image has a reference of its own.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pandas as pd

from benchmarks.gpu import models, ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.pictures import make_table
from benchmarks.gpu.rivals import stock
from benchmarks.gpu.sizes import STRENGTHS, Sizes
from benchmarks.gpu.timing import Contender, Row, our_settings, race, stock_settings
from stages.shared.diffusion.base_model import Pipeline
from stages.shared.diffusion.text import Text, encode_prompts
from stages.shared.diffusion.translation import buckets
from stages.shared.prompts import class_prompts
from stages.shared.tables import Table

OFFICIAL = "as the official code"


def stock_case(batch: int) -> str:
    return f"stock pipeline, batch {batch}"


def our_case(batch: int) -> str:
    return f"ours, batch {batch}"


def group(sizes: Sizes) -> Group:
    batches = (sizes.batch, *sizes.other_batches)
    cases = (OFFICIAL, stock_case(sizes.batch), *map(our_case, batches))
    return Group("translation", cases, run)


def run(bench: Bench) -> Iterator[Row]:
    sizes = bench.sizes
    table = reference_table(bench)
    pipeline, text = ours.load_translator(bench)
    stock_name = stock_case(sizes.batch)

    makers = {
        OFFICIAL: partial(official_contender, bench, table),
        stock_name: partial(stock_contender, bench, table),
    }
    for batch in (sizes.batch, *sizes.other_batches):
        rivals = (OFFICIAL, stock_name) if batch == sizes.batch else (OFFICIAL,)
        makers[our_case(batch)] = partial(
            our_contender, bench, table, pipeline, text, batch, rivals
        )

    yield from race(makers, sizes.rounds, bench.budget)


def reference_table(bench: Bench) -> Table:
    """As many references as any case translates: PNGs, a quarter wider than high."""
    sizes = bench.sizes
    # twice a batch: cases/sameness.py puts other images beside some
    rows = len(STRENGTHS) * max([2 * sizes.batch, *sizes.other_batches])
    side = sizes.resolution
    folder = bench.folder / "references"
    return make_table(folder, rows, (side * 5 // 4, side), sizes.classes, "png", sizes.pictures)


def make_plan(table: Table, images: int, classes: int) -> pd.DataFrame:
    """`images` rows of each strength, as plan.csv has them, each with another reference."""
    count = len(STRENGTHS) * images
    numbers = np.arange(count)
    order = np.random.default_rng(0).permutation(count)

    return pd.DataFrame(
        {
            "key": [f"{number:08d}" for number in numbers],
            "source_key": table.rows["key"].to_numpy()[order],
            "source_label": table.rows["label"].to_numpy()[order],
            "target_label": (numbers * 7) % classes,
            "strength": np.resize(STRENGTHS, count),
            "seed": numbers,
        }
    )


def contend(
    work: Callable[[pd.DataFrame], object],
    rows: pd.DataFrame,
    prepare: Callable[[], None],
    rivals: tuple[str, ...] = (),
) -> Contender:
    """A contender that translates the rows; to warm up, those of the least strength."""
    least = rows[rows["strength"] == min(STRENGTHS)]
    return Contender(
        run=lambda: work(rows),
        warm_up=lambda: work(least),
        units=len(rows),
        prepare=prepare,
        rivals=rivals,
    )


def official_contender(bench: Bench, table: Table) -> Contender:
    tokens = bench.classes()["token"].tolist()
    pipeline = stock.load_official(models.base(bench), models.finetuned(bench), tokens)
    prompts = class_prompts(bench.classes(), "ti+db")
    sizes = bench.sizes
    rows = make_plan(table, sizes.single_images, sizes.classes)
    made = bench.folder / "made"
    made.mkdir(exist_ok=True)

    work = partial(
        stock.translate_officially, pipeline, prompts, table, steps=sizes.steps, folder=made
    )
    return contend(work, rows, stock_settings)


def stock_contender(bench: Bench, table: Table) -> Contender:
    pipeline = stock.load_fused(models.base(bench), models.finetuned(bench))
    text = encode_prompts(pipeline, class_prompts(bench.classes(), "ti+db"))
    sizes = bench.sizes
    rows = make_plan(table, sizes.batch, sizes.classes)
    made = bench.folder / "made"
    made.mkdir(exist_ok=True)

    work = partial(
        stock.translate,
        pipeline,
        text,
        table,
        batch=sizes.batch,
        steps=sizes.steps,
        folder=made,
    )
    return contend(work, rows, stock_settings, (OFFICIAL,))


def our_contender(
    bench: Bench,
    table: Table,
    pipeline: Pipeline,
    text: Text,
    batch: int,
    rivals: tuple[str, ...] = (),
    prepare: Callable[[], None] = our_settings,
) -> Contender:
    """As the stage does: batches of one strength, a shard at the end."""
    synth = ours.sampling(bench, batch)

    def work(rows: pd.DataFrame) -> None:
        images = ours.translate(pipeline, text, table, synth, list(buckets(rows, batch)))
        ours.write_images(images, bench.folder / "made.tar")

    return contend(work, make_plan(table, batch, bench.sizes.classes), prepare, rivals)

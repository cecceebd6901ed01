"""Classifier training from a table of JPEGs on disk: the stage's loader and step, and a plain loop.

Here the cases take no turns: loaders read ahead, and would do so in the others' time. Each is
timed alone, epoch after epoch, with its workers warm.
"""

import gc
from collections.abc import Iterator
from functools import partial

from benchmarks.gpu import ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.pictures import make_table
from benchmarks.gpu.rivals.plain_classifier import PlainClassifier
from benchmarks.gpu.sizes import Recipe, Sizes
from benchmarks.gpu.timing import Contender, Maker, Row, our_settings, race, stock_settings
from stages.shared.tables import Table

PLAIN = "plain loop"
DECODED = "ours, decoded in each epoch"
KEPT = "ours, decoded pictures kept in memory"


def groups(sizes: Sizes) -> list[Group]:
    return [
        Group(
            f"training {recipe.architecture} at {recipe.resolution}",
            (PLAIN, DECODED, KEPT),
            partial(run, recipe),
        )
        for recipe in sizes.recipes
    ]


def run(recipe: Recipe, bench: Bench) -> Iterator[Row]:
    sizes = bench.sizes
    table = photo_table(bench, recipe)

    makers: dict[str, Maker] = {
        PLAIN: partial(plain_contender, recipe, table, sizes),
        DECODED: partial(our_contender, recipe, table, sizes, False),
        KEPT: partial(our_contender, recipe, table, sizes, True),
    }
    speeds: dict[str, float | None] = {}
    for case, make in makers.items():
        for row in race({case: make}, sizes.rounds, bench.budget, speeds):
            speeds[case] = row.get("per_second")
            yield row
        gc.collect()  # ends the workers, which would take the next case's cores


def photo_table(bench: Bench, recipe: Recipe) -> Table:
    """An epoch's photos, a quarter wider than high, as large as the network's images."""
    sizes = bench.sizes
    rows = sizes.epoch_batches * recipe.batch
    side = recipe.resize
    folder = bench.folder / f"photos-{side}"
    return make_table(folder, rows, (side * 5 // 4, side), sizes.classes, "jpeg", sizes.pictures)


def plain_contender(recipe: Recipe, table: Table, sizes: Sizes) -> Contender:
    classifier = PlainClassifier(recipe, table, sizes.classes)
    return Contender(classifier.train, len(table), prepare=stock_settings)


def our_contender(recipe: Recipe, table: Table, sizes: Sizes, keep: bool) -> Contender:
    classifier = ours.Classifier(recipe, table, sizes.classes, keep)
    return Contender(classifier.train, len(table), prepare=our_settings, rivals=(PLAIN,))

"""Which synthetic images to show, beside which real ones, and what to write under them.

Rows are data/filter's: those of data/synthesize's table with their `score`; and here with `weight`, the target's share
of the soft label.
"""

from typing import NamedTuple

import pandas as pd
from PIL import Image

from stages.shared.errors import BadInput
from stages.shared.figures.mosaics import Cell, mosaic
from stages.shared.paths import DOWNLOAD, FILTER, SYNTHESIZE
from stages.shared.tables import Table

STRIPS, DRAWN = 8, 4  # references; images a class where there is no reference


class Sample(NamedTuple):
    """A synthetic image, what it was made from and of, and what it is taught as: `weight` target, the rest source."""

    image: Image.Image
    source: str
    target: str
    weight: float


class Scored(NamedTuple):
    """A synthetic image as the filter sees it."""

    image: Image.Image
    target: str
    score: float


class Strip(NamedTuple):
    """A real image and the synthetic ones beside it; None where a strength has none."""

    reference: Image.Image
    name: str
    samples: list[Sample | None]


def scored(rows: pd.DataFrame, names: list[str]) -> list[Scored]:
    """The images of the rows with CLIP's confidence."""
    table = Table(SYNTHESIZE, rows)
    stories = zip(rows["target_label"], rows["score"], strict=True)
    return [
        Scored(table.image(row), names[target], score)
        for row, (target, score) in enumerate(stories)
    ]


def samples(rows: pd.DataFrame, names: list[str]) -> list[Sample]:
    """The images of the rows with their story."""
    table = Table(SYNTHESIZE, rows)
    stories = zip(rows["source_label"], rows["target_label"], rows["weight"], strict=True)
    return [
        Sample(table.image(row), names[source] if source >= 0 else "", names[target], weight)
        for row, (source, target, weight) in enumerate(stories)
    ]


def choose_translations(rows: pd.DataFrame, count: int) -> list[list[int | None]]:
    """For up to `count` references, the places of a row for each strength, ascending; None where there is none.

    First come references that have every strength, towards one target where possible, each of another class.
    """
    strengths = sorted(rows["strength"].unique())
    spread = rows.groupby(["source_key", "target_label"])["strength"].transform("nunique")
    ordered = rows.assign(place=range(len(rows)), spread=-spread).sort_values(
        ["spread", "target_label", "place"]
    )
    candidates = []
    for key, group in ordered.groupby("source_key"):
        chosen = group.drop_duplicates("strength")
        by_strength = dict(zip(chosen["strength"], chosen["place"], strict=True))
        rank = (-len(chosen), chosen["target_label"].nunique(), key)
        candidates.append(
            (rank, chosen["source_label"].iloc[0], [by_strength.get(s) for s in strengths])
        )
    return [places for _, _, places in _spread_out(sorted(candidates, key=lambda c: c[0]), count)]


def _spread_out(candidates: list[tuple], count: int) -> list[tuple]:
    """The first `count`, taking from each class (second item) once before any class twice."""
    turns: dict[int, int] = {}
    queue = []
    for candidate in candidates:
        turn = turns.get(candidate[1], 0)
        turns[candidate[1]] = turn + 1
        queue.append((turn, candidate))
    return [candidate for _, candidate in sorted(queue, key=lambda item: item[0])[:count]]


def choose_drawn(rows: pd.DataFrame, count: int, each: int) -> list[list[int | None]]:
    """Where images come from noise alone: the places of the first `each` rows of up to `count` targets."""
    places = rows.assign(place=range(len(rows))).groupby("target_label")["place"].apply(list)
    return [[*found[:each], *[None] * (each - len(found))] for found in places.iloc[:count]]


def build_strips(kept: pd.DataFrame, real: pd.DataFrame, names: list[str]) -> list[Strip]:
    """Synthetic images beside the reference each was made from, or beside a real image of the class (from noise)."""
    drawn = without_reference(kept)
    chosen = choose_drawn(kept, STRIPS, DRAWN) if drawn else choose_translations(kept, STRIPS)
    photos = Table(DOWNLOAD / "train", real)
    row_of = {key: row for row, key in reversed(list(enumerate(real["label" if drawn else "key"])))}
    strips = []
    for places in chosen:
        picked = kept.iloc[[place for place in places if place is not None]]
        key = picked["target_label" if drawn else "source_key"].iloc[0]
        if key not in row_of:
            raise BadInput(
                f"{FILTER}/manifest.csv: reference {key!r} is not in the subset; run `dvc repro`"
            )
        shown = iter(samples(picked, names))
        cells = [None if place is None else next(shown) for place in places]
        strips.append(
            Strip(photos.image(row_of[key]), names[real["label"].iloc[row_of[key]]], cells)
        )
    return strips


def without_reference(rows: pd.DataFrame) -> bool:
    return bool((rows["source_key"] == "").all())


def headings(kept: pd.DataFrame) -> list[str]:
    if without_reference(kept):
        return ["a real one", *["from noise"] * DRAWN]
    return ["reference", *[f"s = {strength:g}" for strength in sorted(kept["strength"].unique())]]


def sheet(titles: list[str], strips: list[Strip]) -> Image.Image:
    """The strips as one picture, for `dvc plots`."""
    rows: list[list[Cell | None]] = [
        [
            Cell(strip.reference, (strip.name,)),
            *[
                sample and Cell(sample.image, (towards(sample), label_text(sample)))
                for sample in strip.samples
            ],
        ]
        for strip in strips
    ]
    return mosaic(titles, rows)


def towards(sample: Sample) -> str:
    """Where the image was steered to."""
    return f"→ {sample.target}" if sample.source else sample.target


def label_text(sample: Sample) -> str:
    if sample.weight == 1:
        return "label 1.00 target"
    return f"label {sample.weight:.2f} / {1 - sample.weight:.2f}"

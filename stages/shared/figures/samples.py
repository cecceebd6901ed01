"""Which synthetic images to show, beside which real ones, and what to write under them.

Rows are data/filter's: those of data/synthesize's table with their `score`, and here with `weight`,
the target's share of the soft label.
"""

from typing import NamedTuple

import pandas as pd
from PIL import Image

from stages.shared.errors import BadInput
from stages.shared.figures.mosaics import Cell, mosaic
from stages.shared.paths import DOWNLOAD, FILTER, SYNTHESIZE
from stages.shared.tables import Table

STRIPS = 8  # references
DRAWN = 4  # images a class where there is no reference


class Sample(NamedTuple):
    """A synthetic image, the classes it was made from and towards, and its label.

    The label is `weight` of the target and the rest of the source, which is "" where there is none.
    """

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
    found = []

    for row, (target, score) in enumerate(zip(rows["target_label"], rows["score"], strict=True)):
        found.append(Scored(table.image(row), names[target], score))

    return found


def samples(rows: pd.DataFrame, names: list[str]) -> list[Sample]:
    """The images of the rows with their classes and labels."""
    table = Table(SYNTHESIZE, rows)
    columns = zip(rows["source_label"], rows["target_label"], rows["weight"], strict=True)
    found = []

    for row, (source, target, weight) in enumerate(columns):
        source_name = names[source] if source >= 0 else ""
        found.append(Sample(table.image(row), source_name, names[target], weight))

    return found


def choose_translations(rows: pd.DataFrame, count: int) -> list[list[int | None]]:
    """For up to `count` references, the position in `rows` of an image of each strength, ascending.

    None where a strength has none. First come references that have every strength, towards one
    target where possible, each of another class.
    """
    strengths = sorted(rows["strength"].unique())
    spread = rows.groupby(["source_key", "target_label"])["strength"].transform("nunique")
    ordered = rows.assign(position=range(len(rows)), spread=-spread)
    ordered = ordered.sort_values(["spread", "target_label", "position"])

    candidates = []
    for key, group in ordered.groupby("source_key"):
        chosen = group.drop_duplicates("strength")
        by_strength = dict(zip(chosen["strength"], chosen["position"], strict=True))
        positions = [by_strength.get(strength) for strength in strengths]
        rank = (-len(chosen), chosen["target_label"].nunique(), key)
        candidates.append((rank, chosen["source_label"].iloc[0], positions))

    candidates.sort(key=lambda candidate: candidate[0])

    return [positions for _, _, positions in _spread_out(candidates, count)]


def _spread_out(candidates: list[tuple], count: int) -> list[tuple]:
    """The first `count` candidates; each class (second item) comes once before any comes twice."""
    turns: dict[int, int] = {}
    queue = []

    for candidate in candidates:
        turn = turns.get(candidate[1], 0)
        turns[candidate[1]] = turn + 1
        queue.append((turn, candidate))

    # The sort is stable: within a turn, candidates keep their order.
    queue.sort(key=lambda item: item[0])

    return [candidate for _, candidate in queue[:count]]


def choose_drawn(rows: pd.DataFrame, count: int, each: int) -> list[list[int | None]]:
    """For up to `count` targets, the positions in `rows` of their first `each` images.

    For images that come from noise alone. None fills up where a target has fewer images.
    """
    numbered = rows.assign(position=range(len(rows)))
    by_target = numbered.groupby("target_label")["position"].apply(list)

    chosen = []
    for positions in by_target.iloc[:count]:
        missing = each - len(positions)
        chosen.append([*positions[:each], *[None] * missing])

    return chosen


def build_strips(kept: pd.DataFrame, real: pd.DataFrame, names: list[str]) -> list[Strip]:
    """Synthetic images beside the reference that they were made from.

    Images from noise stand beside a real image of their class. Raises BadInput where the subset
    lacks a reference.
    """
    drawn = without_reference(kept)
    chosen = choose_drawn(kept, STRIPS, DRAWN) if drawn else choose_translations(kept, STRIPS)
    photos = Table(DOWNLOAD / "train", real)

    # Reversed, so that of several real images of a class the first one stays.
    keys = real["label" if drawn else "key"]
    row_of = {key: row for row, key in reversed(list(enumerate(keys)))}

    strips = []
    for positions in chosen:
        picked = kept.iloc[[position for position in positions if position is not None]]
        key = picked["target_label" if drawn else "source_key"].iloc[0]
        if key not in row_of:
            raise BadInput(
                f"{FILTER}/manifest.csv: reference {key!r} is not in the subset; run `dvc repro`"
            )

        row = row_of[key]
        shown = iter(samples(picked, names))
        cells = [None if position is None else next(shown) for position in positions]
        strips.append(Strip(photos.image(row), names[real["label"].iloc[row]], cells))

    return strips


def without_reference(rows: pd.DataFrame) -> bool:
    return bool((rows["source_key"] == "").all())


def headings(kept: pd.DataFrame) -> list[str]:
    if without_reference(kept):
        return ["a real one", *["from noise"] * DRAWN]

    strengths = sorted(kept["strength"].unique())
    return ["reference", *[f"s = {strength:g}" for strength in strengths]]


def sheet(titles: list[str], strips: list[Strip]) -> Image.Image:
    """The strips as one picture, for `dvc plots`."""
    rows = []

    for strip in strips:
        cells: list[Cell | None] = [Cell(strip.reference, (strip.name,))]
        for sample in strip.samples:
            if sample is None:
                cells.append(None)
            else:
                cells.append(Cell(sample.image, (towards(sample), label_text(sample))))
        rows.append(cells)

    return mosaic(titles, rows)


def towards(sample: Sample) -> str:
    """Where the image was steered to."""
    return f"→ {sample.target}" if sample.source else sample.target


def label_text(sample: Sample) -> str:
    if sample.weight == 1:
        return "label 1.00 target"

    return f"label {sample.weight:.2f} / {1 - sample.weight:.2f}"

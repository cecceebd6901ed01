"""Labelled grids of images, for people: a sheet in PNG, and thumbnails that travel inside a page."""

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

SMALLEST, LARGEST = 96, 160  # pixels of the longer side, as shown
WIDEST, TALLEST = 2000, 4000  # pixels of a figure: twice a page's width, for fine screens
GAP, MARGIN = 12, 16
LINE, TEXT = 15, 11  # pixels: a line's height, a letter's
COLUMN = 132  # at least: room for a class's name under a small image
PAPER, INK, FAINT = "white", "#1c1e21", "#6a707a"


class Cell(NamedTuple):
    """An image and the lines under it."""

    image: Image.Image
    lines: tuple[str, ...]


def fit(image: Image.Image) -> Image.Image:
    """Enlarge small images smoothly, shrink large ones; the longer side ends between SMALLEST and LARGEST."""
    side = max(image.size)
    shown = min(max(side, SMALLEST), LARGEST)
    if shown == side:
        return image
    size = (max(1, round(image.width * shown / side)), max(1, round(image.height * shown / side)))
    return image.resize(size, Image.Resampling.LANCZOS)


def data_uri(image: Image.Image) -> str:
    """A thumbnail as text to put into an `src`; WebP, a fifth of a PNG's size when enlarged."""
    return _encode(fit(image))


def figure_uri(image: Image.Image) -> str:
    """A figure as text to put into an `src`, not larger than a page shows it."""
    shown = image.convert("RGB")
    shown.thumbnail((WIDEST, TALLEST), Image.Resampling.LANCZOS)
    return _encode(shown)


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def corner(row: int, column: int, side: int, lines: int) -> tuple[int, int]:
    """Where a cell's image begins on the sheet: (x, y) in pixels; images are `side` wide, over `lines` lines."""
    x = MARGIN + column * (max(side, COLUMN) + GAP)
    y = MARGIN + LINE + GAP // 2 + row * (side + lines * LINE + GAP)
    return x, y


def mosaic(headings: Sequence[str], rows: Sequence[Sequence[Cell | None]]) -> Image.Image:
    """Rows of captioned images under headings; None leaves its place empty."""
    shown = [[cell and Cell(fit(cell.image), cell.lines) for cell in row] for row in rows]
    cells = [cell for row in shown for cell in row if cell]
    side = max((max(cell.image.size) for cell in cells), default=SMALLEST)
    lines = max((len(cell.lines) for cell in cells), default=0)
    right, bottom = corner(len(rows), len(headings), side, lines)
    sheet = Image.new("RGB", (right - GAP + MARGIN, bottom - GAP + MARGIN), PAPER)
    paint = ImageDraw.Draw(sheet)
    for column, heading in enumerate(headings):
        _write(
            paint, (corner(0, column, side, lines)[0], MARGIN), heading, max(side, COLUMN), FAINT
        )
    for number, row in enumerate(shown):
        for column, cell in enumerate(row):
            if cell:
                _put(sheet, paint, cell, corner(number, column, side, lines), side)
    return sheet


def _put(
    sheet: Image.Image, paint: ImageDraw.ImageDraw, cell: Cell, place: tuple[int, int], side: int
) -> None:
    sheet.paste(cell.image, place)
    for number, line in enumerate(cell.lines):
        below = (place[0], place[1] + side + 3 + number * LINE)
        _write(paint, below, line, max(side, COLUMN), INK if number == 0 else FAINT)


def _write(
    paint: ImageDraw.ImageDraw, place: tuple[int, int], text: str, width: int, colour: str
) -> None:
    """One line, cut with an ellipsis where it would run into its neighbour."""
    text, shown = " ".join(text.split()), len(text)
    whole = text
    while paint.textlength(text, _font()) > width and shown > 1:
        shown -= 1
        text = whole[:shown].rstrip() + "…"
    paint.text(place, text, fill=colour, font=_font())


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib: the same letters on every machine, and more than Latin ones."""
    path = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(path), TEXT, layout_engine=ImageFont.Layout.BASIC)

"""Labelled grids of images, for people: a sheet in PNG, and thumbnails inside a page."""

import base64
import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

# All sizes are in pixels. First the limits of an image's longer side, as shown.
SMALLEST = 96
LARGEST = 160
# The limits of a figure: twice a page's width, for fine screens.
WIDEST = 2000
TALLEST = 4000
GAP = 12
MARGIN = 16
LINE = 15  # a line's height
TEXT = 11  # a letter's height
COLUMN = 132  # a column's width at least: room for a class's name under a small image
PAPER = "white"
INK = "#1c1e21"
FAINT = "#6a707a"


class Cell(NamedTuple):
    """An image and the lines under it."""

    image: Image.Image
    lines: tuple[str, ...]


def fit(image: Image.Image) -> Image.Image:
    """Enlarge small images by a whole factor, pixel by pixel, and shrink large ones smoothly.

    The longer side ends between SMALLEST and LARGEST.
    """
    side = max(image.size)
    if side < SMALLEST:
        size = (image.width * times(image), image.height * times(image))
        return image.resize(size, Image.Resampling.NEAREST)

    shown = min(side, LARGEST)
    if shown == side:
        return image

    width = max(1, round(image.width * shown / side))
    height = max(1, round(image.height * shown / side))
    return image.resize((width, height), Image.Resampling.LANCZOS)


def times(image: Image.Image) -> int:
    """How many times a small image is enlarged."""
    return -(-SMALLEST // max(image.size))


def data_uri(image: Image.Image) -> str:
    """A thumbnail as text to put into an `src`; the page enlarges small ones."""
    return _encode(image if max(image.size) < SMALLEST else fit(image))


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
    """The upper left corner of a cell's image on the sheet, (x, y) in pixels.

    Images are `side` wide, above `lines` lines of text.
    """
    x = MARGIN + column * (max(side, COLUMN) + GAP)
    y = MARGIN + LINE + GAP // 2 + row * (side + lines * LINE + GAP)
    return x, y


def mosaic(headings: Sequence[str], rows: Sequence[Sequence[Cell | None]]) -> Image.Image:
    """Rows of captioned images under headings; where a row has None, the sheet stays empty."""
    shown = [[cell and Cell(fit(cell.image), cell.lines) for cell in row] for row in rows]
    cells = [cell for row in shown for cell in row if cell]
    side = max((max(cell.image.size) for cell in cells), default=SMALLEST)
    lines = max((len(cell.lines) for cell in cells), default=0)

    right, bottom = corner(len(rows), len(headings), side, lines)
    sheet = Image.new("RGB", (right - GAP + MARGIN, bottom - GAP + MARGIN), PAPER)
    paint = ImageDraw.Draw(sheet)

    for column, heading in enumerate(headings):
        x, _ = corner(0, column, side, lines)
        _write(paint, (x, MARGIN), heading, max(side, COLUMN), FAINT)

    for number, row in enumerate(shown):
        for column, cell in enumerate(row):
            if cell:
                _put(sheet, paint, cell, corner(number, column, side, lines), side)

    return sheet


def _put(
    sheet: Image.Image, paint: ImageDraw.ImageDraw, cell: Cell, position: tuple[int, int], side: int
) -> None:
    """Draw the cell's image at `position`, its upper left corner, and its lines below it."""
    x, y = position
    sheet.paste(cell.image, position)

    for number, line in enumerate(cell.lines):
        below = (x, y + side + 3 + number * LINE)
        _write(paint, below, line, max(side, COLUMN), INK if number == 0 else FAINT)


def _write(
    paint: ImageDraw.ImageDraw, position: tuple[int, int], text: str, width: int, colour: str
) -> None:
    """One line, cut with an ellipsis where it would run into its neighbour."""
    whole = " ".join(text.split())
    shown = len(whole)
    text = whole

    while paint.textlength(text, _font()) > width and shown > 1:
        shown -= 1
        text = whole[:shown].rstrip() + "…"

    paint.text(position, text, fill=colour, font=_font())


@cache
def _font() -> ImageFont.FreeTypeFont:
    """DejaVu, which comes with matplotlib.

    Its letters are the same on every machine, and not only the Latin ones.
    """
    path = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
    return ImageFont.truetype(str(path), TEXT, layout_engine=ImageFont.Layout.BASIC)

"""Training curves of all arms and of fine-tuning, as SVG to put into a page."""

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# After Okabe and Ito, whose colours hold in colour blindness; of middling lightness, to be seen on
# a light page and on a dark one. The templates in .dvc/plots have the same.
PALETTE = [
    "#868c96", "#d98a00", "#2f80d0", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8f7700",
    "#7b5ea7", "#a8755a", "#2aa0b2", "#6f7f4f",
]  # fmt: skip
BINS = 60
INK = "#010203"  # stands for the page's own text colour, light or dark
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "report",  # fixed, so that equal curves are equal bytes
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
}


def arm_colours(arms: Iterable[str]) -> dict[str, str]:
    return {arm: PALETTE[number % len(PALETTE)] for number, arm in enumerate(arms)}


def curves(history: pd.DataFrame) -> list[str]:
    """Loss and accuracy by epoch, as two SVGs; each arm has its colour.

    A line is the mean over the trials, the band around it their range. `history` is
    metrics/plots/curves.csv.
    """
    return [draw_curve(history, column) for column in ("loss", "accuracy")]


def draw_losses(losses: pd.DataFrame) -> str:
    """Fine-tuning's loss by step, as an SVG: the means of at most BINS stretches of steps.

    `losses` is data/finetune/losses.csv. A step's own loss says little: it depends on the noise
    levels that the step has drawn.
    """
    stretch = -(-len(losses) // BINS)
    means = losses.groupby(losses["step"] // stretch).mean()

    with drawing(xlabel="step", title="fine-tuning loss") as (axes, buffer):
        axes.plot(means["step"], means["loss"], color=INK, linewidth=1.6)
    return _inline(buffer.getvalue())


def draw_curve(history: pd.DataFrame, column: str) -> str:
    """Loss or accuracy of the arms by epoch."""
    colours = arm_colours(history["arm"].unique())

    with drawing(xlabel="epoch", title=f"training {column}") as (axes, buffer):
        for arm, rows in history.groupby("arm", sort=False):
            low = rows[f"{column}_min"]
            high = rows[f"{column}_max"]
            colour = colours[str(arm)]
            axes.fill_between(rows["epoch"], low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(rows["epoch"], rows[column], color=colour, linewidth=1.6)

    return _inline(buffer.getvalue())


@contextmanager
def drawing(**labels: str) -> Iterator[tuple[Axes, io.StringIO]]:
    """Axes to draw on, narrow enough for a phone; the SVG is in the buffer afterwards."""
    with rc_context(STYLE):
        figure = Figure(figsize=(5.5, 3.6), layout="constrained")
        axes = figure.subplots()
        buffer = io.StringIO()

        yield axes, buffer

        axes.set(**labels)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))

        # Without date and creator, equal curves are equal bytes.
        metadata = {"Date": None, "Creator": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)


def _inline(svg: str) -> str:
    """The SVG as part of a page.

    Drops what only a file of its own needs (header, namespaces, metadata), and takes the page's
    text colour.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    return svg.replace(INK, "currentColor")

"""Curves as SVG: equal data are equal bytes, and long ones are drawn as means."""

import re

import pandas as pd

from stages.shared.figures.curves import BINS, draw_losses


def losses(count: int) -> pd.DataFrame:
    return pd.DataFrame({"step": range(count), "loss": [step % 2 for step in range(count)]})


def points(svg: str) -> list[list[float]]:
    """The corners of the drawn line."""
    (path,) = re.findall(r'<path d="([^"]+)" clip-path[^>]+ style="[^"]*stroke-width: 1.6', svg)
    return [[float(number) for number in pair] for pair in re.findall(r"([\d.]+) ([\d.]+)", path)]


def test_few_steps_are_drawn_each():
    assert len(points(draw_losses(losses(5)))) == 5


def test_many_steps_are_drawn_as_means_of_stretches():
    drawn = points(draw_losses(losses(100 * BINS)))

    heights = {height for _, height in drawn}
    assert len(drawn) <= BINS
    assert len(heights) == 1  # each stretch holds as many zeros as ones


def test_equal_losses_are_equal_bytes():
    assert draw_losses(losses(300)) == draw_losses(losses(300))

"""What the figure of the claims shows, read off the figure itself."""

import pytest
from matplotlib.axes import Axes

from experiments.claims.figure import MARKS, compose
from experiments.claims.verdicts import FAMILIES

HOLDING = {
    "label": "top-1", "kind": "greater", "margin": 2.0, "verdict": "holds",
    "difference": {"value": 3.5, "interval": [0.1, 7.0]},
}  # fmt: skip
LENIENT = {
    "label": "faithful", "kind": "not-worse", "margin": 5.0, "verdict": "undecided",
    "difference": {"value": -4.0, "interval": [-6.0, -2.0]},
}  # fmt: skip
MISSING = {"label": "few", "kind": "greater", "margin": 2.0, "verdict": "missing"}


@pytest.fixture
def axes() -> Axes:
    """Two claims, of which the first has two parts."""
    claims = {
        "a": {"verdict": "undecided", "family": FAMILIES[0], "parts": [HOLDING, LENIENT]},
        "b": {"verdict": "missing", "family": FAMILIES[1], "parts": [MISSING]},
    }
    (only,) = compose({"margin": 2.0, "replicates": 7, "claims": claims}).axes
    return only


def test_every_part_has_a_line_named_after_its_claim(axes):
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert names == ["a:  top-1", "a:  faithful (may lose 5)", "b:  few"]
    assert list(axes.get_yticks()) == [0, 1, 2]
    assert "95 % intervals over 7 replicates; ±2 is grey" in axes.get_xlabel()


def test_means_and_intervals_have_their_verdicts_colour_and_mark(axes):
    """The missing part has none of them."""
    colours = {colour: verdict for verdict, (colour, _) in MARKS.items()}
    drawn = [
        (colours[line.get_color()], line.get_marker(), list(line.get_xdata()), line.get_ydata()[0])
        for line in axes.lines
        if line.get_color() in colours and len(line.get_xdata())  # the legend's are empty
    ]
    assert drawn == [
        ("holds", "None", [0.1, 7.0], 0),
        ("holds", "o", [3.5], 0),
        ("undecided", "None", [-6.0, -2.0], 1),
        ("undecided", "D", [-4.0], 1),
    ]


def test_a_claims_verdict_stands_beside_the_middle_of_its_parts(axes):
    written = [(text.get_text(), text.xy[1], text.get_color()) for text in axes.texts]
    assert written == [("undecided", 0.5, MARKS["undecided"][0]), ("missing", 2.0, "#000000")]

"""The hours of docs/paper.md: they are those that the recipes and presets give, by the paper's own rates."""

import numpy as np
import pytest

from experiments.estimating.paper_hours import (
    FORWARD,
    TABLES,
    mean_steps,
    synthesis_rate,
    table,
    training_hours,
    work_of,
)
from experiments.tables.recipes import cases, read_preset
from stages.check import check
from stages.shared.methods import METHODS
from tests.support.closure import ROOT


def test_the_page_holds_what_is_computed():
    assert table() in (ROOT / "docs/paper.md").read_text(), (
        "run `python -m experiments.estimating.paper_hours`"
    )


def test_the_line_goes_through_table_11():
    """Images an hour: Real-filtering 2,957, Real-guidance 20,502, DA-Fusion 4,952, Diff-Mix 4,179."""
    slope, rest = synthesis_rate()
    steps = {"real-filtering": 25, "real-guidance": 2, "da-fusion": 15.25, "diff-mix": 17}
    assert {name: mean_steps(METHODS[name], 25) for name in steps} == steps
    printed = {"real-filtering": 2957, "real-guidance": 20502, "da-fusion": 4952, "diff-mix": 4179}
    for name, rate in printed.items():
        assert 3600 / (slope * steps[name] + rest) == pytest.approx(rate, rel=0.08)


def test_a_classifiers_hours_follow_its_pixels():
    """1,000 images, 9 epochs, one trial: 9,000 images of 6 x 4.089e9 operations at 224 pixels, by 15e12 a second."""
    options = {"architecture": "resnet50", "epochs": 9, "trials": 1, "resolution": 224}
    small = training_hours({"train": options}, 1000)
    assert small == pytest.approx(9000 * 6 * 4.089e9 / 15e12 / 3600)
    assert training_hours({"train": options | {"resolution": 448}}, 1000) == pytest.approx(
        4 * small
    )
    assert FORWARD["vit_b_16"][1] == 384


def test_rows_share_what_dvc_would_not_run_twice():
    """Table 4's baseline, CutMix and Diff-Mix are one experiment; Diff-Aug shares its fine-tuning."""
    work = work_of("table4", ("waterbird",))
    assert len(work.experiments) == 3
    assert list(work.learning.values()) == pytest.approx([12.0, 12.0])
    assert [images for images, _ in work.synthesis.values()] == [29_970] * 3
    assert len(work.training) == 5
    assert np.isclose(sum(hours for _, hours in work.synthesis.values()), 20, rtol=0.05)


@pytest.mark.parametrize(
    ("recipe", "presets"), [entry[1:] for entry in TABLES], ids=[entry[0] for entry in TABLES]
)
def test_every_row_of_the_page_is_accepted_with_its_preset(recipe, presets):
    for preset in presets:
        for case in cases(recipe, read_preset(preset)):
            check(case.params)

"""The hours of docs/paper.md are those of the recipes and presets, by the paper's own rates."""

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

KINDS = ("experiment", "fine-tuning", "synthesis", "classifier")


def test_the_page_holds_what_is_computed():
    assert table() in (ROOT / "docs/paper.md").read_text(), (
        "run `python -m experiments.estimating.paper_hours`"
    )


def test_the_line_goes_through_table_11():
    slope, rest = synthesis_rate()
    steps = {"real-filtering": 25, "real-guidance": 2, "da-fusion": 15.25, "diff-mix": 17}

    assert {name: mean_steps(METHODS[name], 25) for name in steps} == steps
    printed = {"real-filtering": 2957, "real-guidance": 20502, "da-fusion": 4952, "diff-mix": 4179}
    for name, rate in printed.items():
        assert 3600 / (slope * steps[name] + rest) == pytest.approx(rate, rel=0.08)


def test_a_classifiers_hours_follow_its_pixels():
    """1,000 images, 9 epochs, one trial: 9,000 images of 6 x 4.089e9 operations at 224 pixels.

    A GPU does 15e12 of them a second.
    """
    options = {"architecture": "resnet50", "epochs": 9, "trials": 1, "resolution": 224}
    small = training_hours({"train": options}, 1000)
    large = training_hours({"train": options | {"resolution": 448}}, 1000)

    assert small == pytest.approx(9000 * 6 * 4.089e9 / 15e12 / 3600)
    assert large == pytest.approx(4 * small)
    assert FORWARD["vit_b_16"][1] == 384


def test_rows_share_what_dvc_would_not_run_twice():
    """Table 4's baseline, CutMix and Diff-Mix are one experiment.

    Diff-Aug shares its fine-tuning.
    """
    work = work_of("table4", ("waterbird",))
    hours = {kind: [part.hours for part in work if part.kind == kind] for kind in KINDS}

    assert [len(hours[kind]) for kind in KINDS] == [3, 2, 3, 5]
    assert hours["fine-tuning"] == pytest.approx([12.0, 12.0])
    assert [part.images for part in work if part.kind == "synthesis"] == [29_970] * 3
    assert np.isclose(sum(hours["synthesis"]), 20, rtol=0.05)


@pytest.mark.parametrize(
    ("recipe", "presets"), [entry[1:] for entry in TABLES], ids=[entry[0] for entry in TABLES]
)
def test_every_row_of_the_page_is_accepted_with_its_preset(recipe, presets):
    for preset in presets:
        for case in cases(recipe, read_preset(preset)):
            check(case.params)

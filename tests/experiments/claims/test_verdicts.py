"""The verdicts on differences between experiments, and which experiments they need."""

import pandas as pd
import pytest

from experiments.claims import verdicts as module
from experiments.claims.evidence import Gain
from experiments.claims.page import render
from experiments.claims.verdicts import (
    Claims,
    Docket,
    Filtered,
    Part,
    conclude,
    find_cases,
    judge,
    read_claims,
    rows_of,
)
from experiments.running.plans import Spent, marks
from experiments.tables.recipes import read_preset
from stages.shared.errors import BadInput


@pytest.mark.parametrize(
    ("low", "high", "threshold", "verdict"),
    [
        (0.1, 5.0, 0.0, "holds"),
        (-5.0, -0.1, 0.0, "fails"),
        (-1.0, 1.0, 0.0, "undecided"),
        (0.0, 1.0, 0.0, "undecided"),
        (-1.9, 1.0, -2.0, "holds"),
        (-2.1, 1.0, -2.0, "undecided"),
        (-9.0, -2.1, -2.0, "fails"),
    ],
)
def test_a_verdict_asks_on_which_side_of_the_threshold_the_interval_lies(
    low, high, threshold, verdict
):
    assert judge(Gain(0.0, low, high), threshold) == verdict


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "fails", "missing"], "fails"),
        (["holds", "undecided", "missing"], "missing"),
        (["holds", "not measurable"], "holds"),
        (["missing", "not measurable"], "missing"),
        (["not measurable", "not measurable"], "not measurable"),
    ],
)
def test_a_claim_needs_all_of_its_parts(verdicts, whole):
    assert conclude(verdicts) == whole


def test_every_row_of_the_claims_is_a_row_of_a_table():
    claims = read_claims()
    found = find_cases(claims, read_preset("toybirds"))
    assert set(found) == {
        row for claim in claims.claims.values() for part in claim.parts for row in rows_of(part)
    }


def test_the_papers_ten_claims_are_there():
    assert list(read_claims().claims)[:10] == list("abcdefghij")


def one_claim(part: Part | Filtered) -> Claims:
    claim = {"text": "it helps", "source": "Sec. 0", "parts": [part.model_dump()]}
    return Claims.model_validate({"title": "Claims", "margin": 2.0, "claims": {"a": claim}})


GAMMA = Part(
    better=["table6/5-shot s=0.5 gamma=0.5"],
    worse=["table6/5-shot s=0.5 gamma=1.0"],
    measure="top1",
)


PRESET = read_preset("toybirds")
STAGES = {name: {"cmd": name, "params": ["synth.gamma"]} for name in ("evaluate", "assess")}


def docket(part: Part | Filtered, earlier: dict) -> Docket:
    return Docket(one_claim(part), PRESET, STAGES, earlier)


def test_a_part_without_its_experiments_is_missing_and_needed():
    case = docket(GAMMA, {})
    assert case.content({})["claims"]["a"]["verdict"] == "missing"
    assert [row.name for row in case.lacking({})] == [
        "5-shot s=0.5 gamma=0.5",
        "5-shot s=0.5 gamma=1.0",
    ]


def test_a_part_that_was_measured_earlier_stands_without_its_experiments():
    part = {"mark": docket(GAMMA, {}).mark(GAMMA), "difference": [3.0, 1.0, 5.0]}
    case = docket(GAMMA, {"claims": {"a": {"parts": [part]}}})
    assert case.content({})["claims"]["a"]["verdict"] == "holds"
    assert case.lacking({}) == []


FILTERED = Filtered(row="methods/Diff-Mix", column="faithful")


class Photographs:
    """Stands for an experiment whose images nobody can judge."""

    def images(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"key": ["0", "1"], "strength": 0.5, "kept": [0, 1], "faithful": [None, None]}
        )


def test_what_the_dataset_cannot_measure_is_said_and_remembered(monkeypatch):
    case = docket(FILTERED, {})
    monkeypatch.setattr(module, "open_run", lambda ref: Photographs())
    content = case.content(dict.fromkeys(marks(case.cases[FILTERED.row], STAGES), "ref"))
    assert content["claims"]["a"]["verdict"] == "not measurable"
    assert content["claims"]["a"]["parts"][0]["difference"] is None
    again = docket(FILTERED, content)
    assert again.lacking({}) == []
    assert again.content({}) == content


def test_a_misspelt_column_of_the_images_still_raises(monkeypatch):
    part = FILTERED.model_copy(update={"column": "faithfull"})
    case = docket(part, {})
    monkeypatch.setattr(module, "open_run", lambda ref: Photographs())
    with pytest.raises(BadInput, match="'faithfull' of the images is none of"):
        case.content(dict.fromkeys(marks(case.cases[part.row], STAGES), "ref"))


def test_a_misspelt_measure_is_refused_before_anything_runs():
    with pytest.raises(BadInput, match="'fewest' is none of top1"):
        docket(GAMMA.model_copy(update={"beyond": ["fewest"]}), {})


def test_a_part_stands_when_a_stage_changes_that_it_does_not_read():
    """Diff-Mix' row is evaluated and assessed; top1 reads the first alone."""
    part = Part(better=["methods/Diff-Mix"], worse=["beyond/12 steps"], measure="top1")
    changed = STAGES | {"assess": STAGES["assess"] | {"cmd": "assess anew"}}
    one, other = (Docket(one_claim(part), PRESET, stages, {}) for stages in (STAGES, changed))
    assert one.mark(part) == other.mark(part)
    images = part.model_copy(update={"measure": "images.faithful"})
    assert one.mark(images) != other.mark(images)


@pytest.mark.parametrize("targets", [("evaluate",), ("assess", "evaluate")])
def test_an_experiment_serves_a_part_with_its_target_alone_or_with_both(targets):
    part = Part(better=["methods/Diff-Mix"], worse=["beyond/12 steps"], measure="top1")
    case = docket(part, {})
    there = [marks(row._replace(targets=targets), STAGES)[0] for row in case.cases.values()]
    assert case.lacking(there) == []


def test_an_experiment_without_the_parts_target_does_not_serve_it():
    case = docket(FILTERED, {})
    there = [marks(row._replace(targets=("evaluate",)), STAGES)[0] for row in case.cases.values()]
    assert [row.name for row in case.lacking(there)] == ["Diff-Mix"]


def test_not_worse_allows_the_margin():
    part = GAMMA.model_copy(update={"kind": "not-worse"})
    earlier = {"mark": docket(part, {}).mark(part), "difference": [-0.5, -1.5, 0.5]}
    assert (
        docket(part, {"claims": {"a": {"parts": [earlier]}}}).content({})["claims"]["a"]["verdict"]
        == "holds"
    )


def test_another_measure_is_another_part():
    case = docket(GAMMA, {})
    assert case.mark(GAMMA) != case.mark(GAMMA.model_copy(update={"measure": "few"}))


def test_images_of_a_row_that_does_not_assess_are_refused():
    with pytest.raises(BadInput, match="does not run assess"):
        docket(GAMMA.model_copy(update={"measure": "images.faithful"}), {})


def test_the_page_names_the_rows_the_difference_and_the_verdict():
    part = {"mark": docket(GAMMA, {}).mark(GAMMA), "difference": [3.0, 1.0, 5.0]}
    page = render(
        docket(GAMMA, {"claims": {"a": {"parts": [part]}}}).content({}),
        "toybirds",
        3,
        Spent(2, 1.5, 1),
    )
    assert "| a | it helps | Sec. 0 | holds |" in page
    row = "| a | table6/5-shot s=0.5 gamma=0.5 > table6/5-shot s=0.5 gamma=1.0 | top1 | +3 [1, 5] | holds |"
    assert row in page
    assert "2 experiments (of which 1 have no time), 1.5 min in all." in page

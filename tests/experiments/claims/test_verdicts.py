"""The verdicts on differences between experiments, and which experiments they need."""

import pandas as pd
import pytest

from experiments.claims import verdicts as module
from experiments.claims.evidence import Gain
from experiments.claims.page import render
from experiments.claims.schema import Claims, Filtered, Part, find_cases, read_claims, rows_of
from experiments.claims.verdicts import ClaimBook, conclude, judge
from experiments.commands import current_commit
from experiments.running.plans import Spent, fingerprints_of
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
    parts = [part for claim in claims.claims.values() for part in claim.parts]

    assert set(found) == {row for part in parts for row in rows_of(part)}


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


def open_book(part: Part | Filtered, earlier: dict) -> ClaimBook:
    """The book of one claim with one part."""
    return ClaimBook(one_claim(part), PRESET, STAGES, earlier)


def found_earlier(part: Part | Filtered, difference: list[float]) -> dict:
    """A metrics/claims.json that holds the part's difference, made by an earlier commit."""
    found = {
        "commit": "0badcafe",
        "difference": difference,
        "fingerprint": open_book(part, {}).fingerprint(part),
    }
    return {"claims": {"a": {"parts": [found]}}}


def verdict_of(content: dict) -> str:
    return content["claims"]["a"]["verdict"]


def commit_of(content: dict) -> str | None:
    return content["claims"]["a"]["parts"][0]["commit"]


def test_a_part_without_its_experiments_is_missing_and_needed():
    book = open_book(GAMMA, {})
    content = book.content({})

    assert verdict_of(content) == "missing"
    assert commit_of(content) is None

    rows = [row.name for row in book.lacking({})]

    assert rows == ["5-shot s=0.5 gamma=0.5", "5-shot s=0.5 gamma=1.0"]


def test_a_part_that_was_found_earlier_stands_without_its_experiments():
    book = open_book(GAMMA, found_earlier(GAMMA, [3.0, 1.0, 5.0]))
    content = book.content({})

    assert verdict_of(content) == "holds"
    assert commit_of(content) == "0badcafe"
    assert book.lacking({}) == []


FILTERED = Filtered(row="methods/Diff-Mix", column="faithful")


class Photographs:
    """Stands for an experiment whose images nobody can judge."""

    def read_images(self) -> pd.DataFrame:
        return pd.DataFrame(
            {"key": ["0", "1"], "strength": 0.5, "kept": [0, 1], "faithful": [None, None]}
        )


def test_what_the_dataset_cannot_measure_is_said_and_remembered(monkeypatch):
    book = open_book(FILTERED, {})
    monkeypatch.setattr(module, "open_run", lambda ref: Photographs())
    content = book.content(dict.fromkeys(fingerprints_of(book.cases[FILTERED.row], STAGES), "ref"))

    assert verdict_of(content) == "not measurable"
    assert content["claims"]["a"]["parts"][0]["difference"] is None
    assert commit_of(content) == current_commit()

    again = open_book(FILTERED, content)

    assert again.lacking({}) == []
    assert again.content({}) == content


def test_a_misspelt_column_of_the_images_still_raises(monkeypatch):
    part = FILTERED.model_copy(update={"column": "faithfull"})
    book = open_book(part, {})
    monkeypatch.setattr(module, "open_run", lambda ref: Photographs())

    with pytest.raises(BadInput, match="'faithfull' of the images is none of"):
        book.content(dict.fromkeys(fingerprints_of(book.cases[part.row], STAGES), "ref"))


def test_a_misspelt_measure_is_refused_before_anything_runs():
    with pytest.raises(BadInput, match="'fewest' is none of top1"):
        open_book(GAMMA.model_copy(update={"beyond": ["fewest"]}), {})


def test_a_part_stands_when_a_stage_changes_that_it_does_not_read():
    """Diff-Mix' row is evaluated and assessed; top1 reads the first alone."""
    part = Part(better=["methods/Diff-Mix"], worse=["beyond/12 steps"], measure="top1")
    changed = STAGES | {"assess": STAGES["assess"] | {"cmd": "assess anew"}}
    one = ClaimBook(one_claim(part), PRESET, STAGES, {})
    other = ClaimBook(one_claim(part), PRESET, changed, {})

    assert one.fingerprint(part) == other.fingerprint(part)

    images = part.model_copy(update={"measure": "images.faithful"})

    assert one.fingerprint(images) != other.fingerprint(images)


@pytest.mark.parametrize("targets", [("evaluate",), ("assess", "evaluate")])
def test_an_experiment_serves_a_part_with_its_target_alone_or_with_both(targets):
    part = Part(better=["methods/Diff-Mix"], worse=["beyond/12 steps"], measure="top1")
    book = open_book(part, {})
    finished = [
        fingerprints_of(row._replace(targets=targets), STAGES)[0] for row in book.cases.values()
    ]

    assert book.lacking(finished) == []


def test_an_experiment_without_the_parts_target_does_not_serve_it():
    book = open_book(FILTERED, {})
    rows = [row._replace(targets=("evaluate",)) for row in book.cases.values()]
    finished = [fingerprints_of(row, STAGES)[0] for row in rows]

    assert [row.name for row in book.lacking(finished)] == ["Diff-Mix"]


def test_not_worse_allows_the_margin():
    part = GAMMA.model_copy(update={"kind": "not-worse"})
    book = open_book(part, found_earlier(part, [-0.5, -1.5, 0.5]))
    assert verdict_of(book.content({})) == "holds"


def test_another_measure_is_another_part():
    book = open_book(GAMMA, {})
    few = GAMMA.model_copy(update={"measure": "few"})
    assert book.fingerprint(GAMMA) != book.fingerprint(few)


def test_images_of_a_row_that_does_not_assess_are_refused():
    with pytest.raises(BadInput, match="does not run assess"):
        open_book(GAMMA.model_copy(update={"measure": "images.faithful"}), {})


SPENT = Spent(2, 1.5, 1)


def test_the_page_names_the_rows_the_difference_the_verdict_and_the_commit():
    content = open_book(GAMMA, found_earlier(GAMMA, [3.0, 1.0, 5.0])).content({})
    page = render(content, "toybirds", 3, SPENT)

    assert "| a | it helps | Sec. 0 | holds |" in page

    rows = "table6/5-shot s=0.5 gamma=0.5 > table6/5-shot s=0.5 gamma=1.0"

    assert f"| a | {rows} | top1 | +3 [1, 5] | holds |" in page
    assert "(of `not worse`: above -2)" in page
    assert "Verdicts on 1 claim: holds 1. Made by the code of commit 0badcafe." in page
    assert "2 experiments (of which 1 have no time), 1.5 min in all." in page


def test_the_page_names_each_commit_with_what_it_made():
    content = open_book(GAMMA, found_earlier(GAMMA, [3.0, 1.0, 5.0])).content({})
    part = content["claims"]["a"]["parts"][0]
    content["claims"]["a"]["parts"] = [part, part, part | {"commit": "c0ffee"}]
    page = render(content, "toybirds", 3, SPENT)

    shares = "0badcafe (2 of 3 comparisons), c0ffee (1 of 3 comparisons)"

    assert f"Made by the code of commits {shares}." in page

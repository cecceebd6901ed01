"""Differences between experiments against hand-made cases and stages/evaluate.py's gains, and the verdicts on them."""

import numpy as np
import pandas as pd
import pytest

from experiments.claims import Claims, Docket, Filtered, Part, conclude, find_cases, judge, read_claims, render, rows_of
from experiments.evidence import Difference, Side, compare, compare_images, compare_kept
from experiments.recipes import read_preset
from stages.shared.errors import BadInput
from stages.shared.measures import Answers, draw_weights, measure_gain

GROUPS = ["landbird_land", "landbird_water", "waterbird_land", "waterbird_water"]
SHOTS = {"many": np.array([0]), "few": np.array([1, 2])}


def answers(shares: dict[str, float], seed: int) -> Answers:
    """Random answers of three trials to forty images a group, right with the group's share; classes 0, 1, 2 in turn."""
    random = np.random.default_rng(seed)
    groups = np.repeat(list(shares), 40)
    labels = np.arange(len(groups)) % 3
    right = random.random((3, len(groups))) < np.repeat(list(shares.values()), 40)
    return Answers(np.arange(len(groups)).astype(str), labels, groups, np.where(right, labels, labels + 1))


def side(test: float, ood: float, seed: int) -> Side:
    splits = {"test": answers({"": test}, seed), "ood": answers(dict.fromkeys(GROUPS, ood), seed + 100)}
    return Side(splits, SHOTS)


def exact(right: dict[int, int]) -> Side:
    """One trial on ten test images of each class, of which so many are right."""
    labels = np.repeat(list(right), 10)
    correct = np.concatenate([np.arange(10) < number for number in right.values()])
    keys = np.arange(len(labels)).astype(str)
    return Side({"test": Answers(keys, labels, np.full(len(labels), ""), np.where(correct, labels, 9)[None])}, SHOTS)


@pytest.mark.parametrize("measure", ["top1", "waterbird_worst"])
def test_a_difference_and_its_interval_are_those_of_evaluates_gain(measure):
    arm, base = side(0.8, 0.6, 1), side(0.6, 0.5, 2)
    gain = measure_gain(arm.splits, base.splits, draw_weights(base.splits, 500))
    found = compare([arm], [base], measure, [], 500)
    assert found == (gain[measure], *gain[f"{measure}_ci"])


def test_top1_by_hand():
    assert (
        compare([exact({0: 8, 1: 6, 2: 4})], [exact({0: 5, 1: 5, 2: 5})], "top1", [], 50).value == 10.0
    )  # 18 - 15 of 30


def test_few_is_the_mean_of_its_classes():
    better, worse = exact({0: 8, 1: 6, 2: 4}), exact({0: 5, 1: 5, 2: 1})
    assert compare([better], [worse], "few", [], 50).value == 20.0  # (60 + 40) / 2 - (50 + 10) / 2


def test_beyond_is_a_difference_of_differences():
    better, worse = exact({0: 8, 1: 6, 2: 4}), exact({0: 5, 1: 5, 2: 1})
    assert compare([better], [worse], "few", ["many"], 50).value == -10.0  # 20 in few less 30 in many


def test_beyond_several_measures_takes_their_mean():
    better, worse = exact({0: 8, 1: 6, 2: 4}), exact({0: 5, 1: 5, 2: 1})
    assert compare([better], [worse], "top1", ["many", "few"], 50).value == -1.67  # 23.33 - (30 + 20) / 2


def test_several_rows_count_by_their_mean():
    rows = [exact({0: 10, 1: 10, 2: 10}), exact({0: 4, 1: 4, 2: 4})]
    assert compare(rows, [exact({0: 5, 1: 5, 2: 5})], "top1", [], 50).value == 20.0


def test_a_waterbird_group_by_hand():
    better, worse = side(0.5, 0.9, 3), side(0.5, 0.4, 4)
    members = better.splits["ood"].groups == "waterbird_land"
    shares = [100 * each.splits["ood"].correct[:, members].mean() for each in (better, worse)]
    found = compare([better], [worse], "waterbird_land", [], 50)
    assert found.value == pytest.approx(shares[0] - shares[1], abs=0.01)


def test_identical_rows_differ_by_nothing():
    assert compare([side(0.7, 0.5, 5)], [side(0.7, 0.5, 5)], "top1", [], 100) == (0.0, 0.0, 0.0)


def test_rows_with_other_test_images_are_refused():
    with pytest.raises(BadInput, match="other test images or trials"):
        compare([exact({0: 1, 1: 1, 2: 1})], [exact({0: 1, 1: 1})], "top1", [], 10)


def test_an_unknown_measure_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="'fewest' is none of top1, many, few"):
        compare([exact({0: 1, 1: 1, 2: 1})], [exact({0: 1, 1: 1, 2: 1})], "fewest", [], 10)


def image_table(values: list[float], kept: list[int] | None = None) -> pd.DataFrame:
    keys = [f"{number:08d}" for number in range(len(values))]
    return pd.DataFrame({"key": keys, "kept": kept or [1] * len(values), "faithful": values})


def test_images_are_paired_by_their_key():
    one = image_table([1, 0, 1, 0])
    assert compare_images([one], [one.iloc[::-1]], "faithful", 100) == (0.0, 0.0, 0.0)


def test_images_without_a_value_on_either_side_do_not_count():
    found = compare_images([image_table([1, np.nan, 1])], [image_table([0, 0, np.nan])], "faithful", 100)
    assert found.value == 100.0


def test_kept_images_against_dropped_ones_by_hand():
    found = compare_kept(image_table([1, 1, 1, 0, 0, 1], [1, 1, 1, 1, 0, 0]), "faithful", 500)
    assert found.value == 25.0  # 3 of 4 against 1 of 2
    assert found.low < 0 < found.high


def test_a_filter_that_dropped_nothing_gives_no_evidence():
    with pytest.raises(BadInput, match="dropped nothing"):
        compare_kept(image_table([1, 0]), "faithful", 10)


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
def test_a_verdict_asks_on_which_side_of_the_threshold_the_interval_lies(low, high, threshold, verdict):
    assert judge(Difference(0.0, low, high), threshold) == verdict


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "undecided"], "undecided"),
        (["undecided", "fails", "missing"], "fails"),
        (["holds", "undecided", "missing"], "missing"),
    ],
)
def test_a_claim_needs_all_of_its_parts(verdicts, whole):
    assert conclude(verdicts) == whole


def test_every_row_of_the_claims_is_a_row_of_a_table():
    claims = read_claims()
    found = find_cases(claims, read_preset("toybirds"))
    assert set(found) == {row for claim in claims.claims.values() for part in claim.parts for row in rows_of(part)}


def test_the_papers_ten_claims_are_there():
    assert list(read_claims().claims)[:10] == list("abcdefghij")


def one_claim(part: Part | Filtered) -> Claims:
    claim = {"text": "it helps", "source": "Sec. 0", "parts": [part.model_dump()]}
    return Claims.model_validate({"title": "Claims", "margin": 2.0, "claims": {"a": claim}})


GAMMA = Part(better=["table6/5-shot s=0.5 gamma=0.5"], worse=["table6/5-shot s=0.5 gamma=1.0"], measure="top1")


STAGES = {name: {"cmd": name, "params": ["synth.gamma"]} for name in ("evaluate", "assess")}


def docket(part: Part | Filtered, earlier: dict) -> Docket:
    return Docket(one_claim(part), read_preset("toybirds"), STAGES, earlier)


def test_a_part_without_its_experiments_is_missing_and_needed():
    case = docket(GAMMA, {})
    assert case.content({})["claims"]["a"]["verdict"] == "missing"
    assert [row.name for row in case.needed()] == ["5-shot s=0.5 gamma=0.5", "5-shot s=0.5 gamma=1.0"]


def test_a_part_that_was_measured_earlier_stands_without_its_experiments():
    part = {"mark": docket(GAMMA, {}).mark(GAMMA), "difference": [3.0, 1.0, 5.0]}
    case = docket(GAMMA, {"claims": {"a": {"parts": [part]}}})
    assert case.content({})["claims"]["a"]["verdict"] == "holds"
    assert case.needed() == []


def test_not_worse_allows_the_margin():
    part = GAMMA.model_copy(update={"kind": "not-worse"})
    earlier = {"mark": docket(part, {}).mark(part), "difference": [-0.5, -1.5, 0.5]}
    assert docket(part, {"claims": {"a": {"parts": [earlier]}}}).content({})["claims"]["a"]["verdict"] == "holds"


def test_another_measure_is_another_part():
    case = docket(GAMMA, {})
    assert case.mark(GAMMA) != case.mark(GAMMA.model_copy(update={"measure": "few"}))


def test_images_of_a_row_that_does_not_assess_are_refused():
    with pytest.raises(BadInput, match="does not run assess"):
        docket(GAMMA.model_copy(update={"measure": "images.faithful"}), {})


def test_the_page_names_the_rows_the_difference_and_the_verdict():
    part = {"mark": docket(GAMMA, {}).mark(GAMMA), "difference": [3.0, 1.0, 5.0]}
    page = render(docket(GAMMA, {"claims": {"a": {"parts": [part]}}}).content({}), "toybirds", 3)
    assert "| a | it helps | Sec. 0 | holds |" in page
    row = "| a | table6/5-shot s=0.5 gamma=0.5 > table6/5-shot s=0.5 gamma=1.0 | top1 | +3 [1, 5] | holds |"
    assert row in page

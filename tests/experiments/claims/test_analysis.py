"""How claims are decided: by hand, against other implementations, and where nothing is true."""

import numpy as np
import pytest
from scipy import stats

from experiments.claims.analysis import (
    PValues,
    Rule,
    decide,
    judge_part,
    p_values_of_claim,
    p_values_of_part,
    replicates_needed,
)
from experiments.intervals import Estimate, estimate, interval

GREATER = Rule("greater", 2.0)
NOT_WORSE = Rule("not-worse", 2.0)


@pytest.mark.parametrize(
    ("low", "high", "rule", "verdict"),
    [
        (0.1, 5.0, GREATER, "holds"),
        (0.1, 1.0, GREATER, "holds"),  # small, but more than nothing
        (-5.0, -0.1, GREATER, "fails"),
        (-1.0, 1.0, GREATER, "equivalent"),
        (-2.1, 1.0, GREATER, "undecided"),
        (-1.0, 2.1, GREATER, "undecided"),
        (-1.9, 1.0, NOT_WORSE, "holds"),
        (-2.1, 1.0, NOT_WORSE, "undecided"),
        (-9.0, -2.1, NOT_WORSE, "fails"),
        (-4.9, 1.0, Rule("not-worse", 5.0), "holds"),
    ],
)
def test_a_part_is_judged_by_its_interval(low, high, rule, verdict):
    assert judge_part(Estimate((low + high) / 2, low, high, 1.0, 7), rule) == verdict


@pytest.mark.parametrize("rule", [GREATER, NOT_WORSE])
@pytest.mark.parametrize("value", [-4.0, -1.5, -0.3, 0.0, 0.3, 1.1, 2.5])
@pytest.mark.parametrize("deviation", [0.3, 1.0, 2.5])
def test_a_parts_p_values_agree_with_its_verdict(rule, value, deviation):
    found = interval(value, deviation, 7)
    p = p_values_of_part(found, rule)
    passed = [verdict for verdict, each in p._asdict().items() if each < 0.05]
    verdict = judge_part(found, rule)

    assert passed == [] if verdict == "undecided" else verdict in passed


def test_equivalence_is_two_one_sided_tests():
    values = [0.4, -0.9, 0.8, -0.2, 0.1, 0.6, -0.5]
    found = interval(float(np.mean(values)), float(np.std(values, ddof=1)), 7)
    above = stats.ttest_1samp(values, -2.0, alternative="greater").pvalue
    below = stats.ttest_1samp(values, 2.0, alternative="less").pvalue
    assert p_values_of_part(found, GREATER).equivalent == pytest.approx(2 * max(above, below))


def test_a_claim_holds_by_its_weakest_part_and_fails_by_its_worst():
    parts = [PValues(0.001, 0.9, 1.0), PValues(0.6, 0.02, 0.4), PValues(0.03, 1.0, 0.9)]
    found = p_values_of_claim(parts)
    assert (found.holds, found.equivalent) == (0.6, 0.03)
    assert found.fails == 1.0  # 3 * 0.4

    assert p_values_of_claim([*parts, PValues(1.0, 1.0, 0.002)]).fails == pytest.approx(0.008)


def holding(*p: float) -> dict[str, PValues]:
    return {str(number): PValues(value, 1.0, 1.0) for number, value in enumerate(p)}


def test_holms_procedure_by_hand():
    """0.01 < 0.05 / 4 and 0.015 < 0.05 / 3, but 0.03 > 0.05 / 2: it and 0.04 are not reached."""
    verdicts = decide(holding(0.03, 0.01, 0.04, 0.015), 0.05, 4)
    assert list(verdicts.values()) == ["undecided", "holds", "undecided", "holds"]


def test_claims_still_to_be_run_count():
    assert decide(holding(0.02), 0.05, 1) == {"0": "holds"}
    assert decide(holding(0.02), 0.05, 3) == {"0": "undecided"}


def test_what_holds_is_not_called_equivalent():
    family = {"a": PValues(0.001, 0.0001, 1.0), "b": PValues(0.2, 0.0001, 1.0)}
    assert decide(family, 0.05, 2) == {"a": "holds", "b": "equivalent"}


def test_equivalent_claims_do_not_relax_what_the_others_are_set_against():
    """0.02 is above 0.05 / 3, whatever the other two are."""
    nothing = PValues(0.9, 0.0001, 0.9)
    family = {"a": nothing, "b": nothing, "c": PValues(0.02, 0.9, 1.0)}
    assert decide(family, 0.05, 3)["c"] == "undecided"


@pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0])
def test_of_families_without_any_effect_one_in_twenty_decides_something(deviation):
    """Ten claims of one comparison each, whose replicates may or may not show equivalence."""
    random = np.random.default_rng(0)
    wrong = 0

    for _ in range(1000):
        values = random.normal(0, deviation, (10, 7))
        found = [estimate(list(each)) for each in values]
        family = {
            str(number): p_values_of_claim([p_values_of_part(each, GREATER)])
            for number, each in enumerate(found)
        }
        wrong += bool({"holds", "fails"} & set(decide(family, 0.05, 10).values()))

    assert 0.03 < wrong / 1000 < 0.065  # 5 %, give or take two deviations of the simulation


def decided(value: float, deviation: float, rule: Rule, count: int) -> float:
    """The share of 2,000 sets of so many replicates that decide the part."""
    sets = np.random.default_rng(0).normal(value, deviation, (2000, count))
    verdicts = [judge_part(estimate(list(each)), rule) for each in sets]
    return 1 - verdicts.count("undecided") / len(verdicts)


@pytest.mark.parametrize(
    ("value", "deviation", "rule"),
    [
        (5.0, 8.0, GREATER),
        (1.3, 1.6, GREATER),
        (-1.5, 3.3, GREATER),
        (-1.0, 1.7, NOT_WORSE),
        (-3.8, 1.3, Rule("not-worse", 5.0)),
    ],
)
def test_so_many_replicates_decide_a_part_in_half_of_the_sets_and_half_as_many_do_not(
    value, deviation, rule
):
    needed = replicates_needed(interval(value, deviation, 7), rule)
    assert decided(value, deviation, rule, needed) >= 0.5
    assert decided(value, deviation, rule, needed // 2) < 0.4


def test_so_many_replicates_may_seldom_show_equivalence():
    """An interval of just the margins' width lies between them where its mean is just 0."""
    needed = replicates_needed(interval(0.0, 6.0, 7), GREATER)
    assert judge_part(interval(0.0, 6.0, needed), GREATER) == "equivalent"
    assert decided(0.0, 6.0, GREATER, needed) < 0.25


def test_a_part_that_lies_on_the_margin_is_never_decided():
    assert replicates_needed(interval(-2.0, 1.0, 7), NOT_WORSE) is None

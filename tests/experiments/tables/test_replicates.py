"""Replicates of a row: the same parameters under other seeds."""

import pytest

from experiments.tables.recipes import cases, read_preset
from experiments.tables.replicates import TRIALS, count_replicates, replicates
from stages.shared.errors import BadInput

PRESET = read_preset("toybirds")
ROW = cases("methods", PRESET, ["Diff-Mix"])[0]


def test_a_single_one_is_the_presets_own_run():
    assert replicates(ROW, 1) == [ROW]


def test_no_two_trials_of_replicates_have_one_seed():
    made = replicates(ROW, 7)
    seeds = [case.params["seed"] + trial for case in made for trial in range(TRIALS)]
    assert len(set(seeds)) == 7 * TRIALS
    assert PRESET["seed"] not in seeds  # which the default run, and its development, has used


def test_all_but_seed_and_trials_is_the_rows():
    for case in replicates(ROW, 3):
        own = case.params | {"seed": ROW.params["seed"]}
        own["train"] = own["train"] | {"trials": ROW.params["train"]["trials"]}
        assert own == ROW.params


def test_the_row_itself_stays_as_it_is():
    before = ROW.params["seed"], ROW.params["train"]["trials"]
    replicates(ROW, 3)
    assert (ROW.params["seed"], ROW.params["train"]["trials"]) == before


@pytest.mark.parametrize("text", ["0", "-1", "many", ""])
def test_a_number_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("REPLICATES", text)
    with pytest.raises(BadInput, match=r"REPLICATES: .* is not a number of at least 1"):
        count_replicates(3)


def test_an_interval_needs_two(monkeypatch):
    monkeypatch.setenv("REPLICATES", "1")
    with pytest.raises(BadInput, match="at least 2"):
        count_replicates(7, least=2)

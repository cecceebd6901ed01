"""Tables of experiments: what their files say, and how their rows become DVC experiments."""

import copy
import json
import shutil
from pathlib import Path

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from experiments.running import queue
from experiments.running.ledger import Ledger
from experiments.running.overrides import overrides
from experiments.running.plans import find_serving, fingerprints_of, lacking, plan, spent
from experiments.running.queue import Entry
from experiments.running.results import (
    Setting,
    combine,
    find,
    keep_published,
    name_code,
    name_row,
    read_values,
    record,
    render,
    show_printed,
)
from experiments.running.series import Series, jobs
from experiments.tables.recipes import FOLDER, Case, Table, cases, parse, read_preset, read_table
from experiments.tables.replicates import replicates
from stages.shared.errors import BadInput
from tests.support.closure import ROOT

TABLES = [
    "arms", "beyond", "epochs", "fig10", "fig6", "fig7a", "fig7b", "methods", "steep", "tails",
    "table1", "table2", "table3", "table4", "table5", "table6",
]  # fmt: skip
PRESET = read_preset("toybirds")


def case_of(table: str, name: str) -> Case:
    return next(case for case in cases(table, PRESET) if case.name == name)


BEFORE = {
    "a": {"text": "x", "none": None, "list": [1], "number": 1, "gone": 1},
    "arms": {"b-c": {"p": 0.5}, "d": {}},
}
AFTER = {
    "a": {
        "text": 'it\'s [a], {b}: "c" = d\\',
        "none": ["n-2", None, True],
        "list": None,
        "number": 0.0001,
    },
    "arms": {
        "b-c": {"p": 0.25, "word": "null"},
        "new-arm": {"mix": "none", "p": 1.0, "flag": False, "q": -3},
    },
}


def test_overrides_turn_one_file_into_the_other_by_dvcs_own_hand(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(BEFORE))
    apply_overrides(path, list(overrides(BEFORE, AFTER)))

    assert yaml.safe_load(path.read_text()) == AFTER


def test_equal_parameters_need_no_override():
    assert list(overrides(AFTER, copy.deepcopy(AFTER))) == []


@pytest.mark.parametrize("table", TABLES)
def test_every_rows_overrides_give_its_parameters(table, tmp_path):
    different = {json.dumps(case.params): case.params for case in cases(table, PRESET)}

    for number, params in enumerate(different.values()):
        path = tmp_path / f"{number}.yaml"
        shutil.copy(ROOT / "params.yaml", path)
        apply_overrides(path, list(overrides(yaml.safe_load(path.read_text()), params)))

        assert yaml.safe_load(path.read_text()) == params


@pytest.mark.parametrize("table", TABLES)
def test_every_row_has_parameters_that_the_stages_accept(table):
    from stages.check import check

    for case in cases(table, PRESET):
        check(case.params)


def test_every_file_is_tested():
    assert sorted([*TABLES, "claims", "table11"]) == sorted(
        path.stem for path in FOLDER.glob("*.yaml")
    )


def test_a_table_adds_an_arm_and_leaves_the_presets_own_as_it_is():
    own = copy.deepcopy(PRESET)
    own["arms"]["real"]["mixup"] = {"mix": "mixup", "mix_probability": 0.2, "reweight": "none"}
    probabilities = [
        case.params["arms"]["real"]["mixup"]["mix_probability"]
        for preset in (PRESET, own)
        for case in cases("table1", preset, ["Mixup"])
    ]

    assert probabilities == [0.3, 0.2]


def test_rows_with_equal_parameters_share_an_experiment():
    experiments = plan(cases("table1", PRESET), needed_stages(), PRESET)

    # baseline, CutMix, Mixup and both Diff-Mix; Real-filtering; Real-guidance; DA-Fusion
    assert len(experiments) == 4
    assert experiments[0].name == f"table1-baseline-{experiments[0].fingerprint}"
    assert "arms.synthetic.diffmix.p=0.1" in experiments[0].overrides


def needed_stages() -> dict:
    return {
        name: {"cmd": name, "params": ["synth.gamma", "method"]} for name in ("evaluate", "assess")
    }


def test_an_experiment_with_more_targets_serves_a_row_that_needs_fewer():
    more = case_of("beyond", "12 steps")
    fewer = more._replace(targets=("evaluate",))
    (experiment,) = plan([more, fewer], needed_stages(), PRESET)

    assert experiment.targets == ("assess", "evaluate")
    held = ledger_of({experiment.fingerprint: {}})
    assert find_serving(fewer, needed_stages(), held) == experiment.fingerprint
    other = ledger_of({fingerprints_of(fewer, needed_stages())[0]: {}})
    assert find_serving(more, needed_stages(), other) is None


def ledger_of(entries: dict[str, dict]) -> Ledger:
    """A ledger that is nowhere on the disk."""
    ledger = Ledger(Path("nowhere.jsonl"))
    ledger.entries = entries
    return ledger


@pytest.mark.parametrize(
    ("table", "name", "column", "printed"),
    [
        ("table1", "Diff-Mix", "RN50 Aircraft", 90.25),
        ("table1", "Real-filtering", "RN50 average", 91.22),
        ("table1", "Diff-Mix + CutMix", "ViT average", 92.46),
        ("table2", "IF=100 CMO + DRW", "few", 14.66),
        ("table2", "IF=50 Diff-Mix", "all", 58.19),
        ("table3", "IF=100 Diff-Mix", "few", 78.41),
        ("table3", "IF=10 CE", "all", 95.07),
        ("table4", "Diff-Mix", "waterbird on land", 63.24),
        ("table5", "5-shot Diff-Gen DB", "FID", 19.55),
        ("table5", "all-shot Diff-Mix TI + DB", "accuracy", 82.85),
        ("table6", "5-shot s=0.5 gamma=1.5", "gain", -4.5),
        ("table6", "all-shot s=0.9 gamma=0.1", "gain", 0.84),
    ],
)
def test_printed_numbers_are_the_papers(table, name, column, printed):
    assert case_of(table, name).paper[column] == printed


def test_table_6_holds_all_printed_gains():
    assert sum("gain" in case.paper for case in cases("table6", PRESET)) == 36


def test_rows_are_chosen_by_pattern():
    assert len(cases("fig6", PRESET, ["5-shot Diff-Mix *"])) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"set": {"synth.gama": 1}}, "synth.gama is no parameter"),
        ({"arms": ["baseline", "cutmx"]}, "no arm 'cutmx'"),
        ({"arm": "cutmix"}, "arm 'cutmix' is not among its arms"),
        ({"rows": [{"name": "a"}, {"name": "a"}]}, "'a' appears twice"),
        ({"paper": {"b": {}}}, "no row 'b'"),
    ],
)
def test_a_mistake_in_a_file_is_named(changes, message, monkeypatch):
    tree = {
        "title": "T",
        "arms": ["baseline", "diffmix"],
        "arm": "diffmix",
        "targets": ["evaluate"],
        "columns": {},
    }
    table = parse(Table, tree | {"rows": [{"name": "a"}]} | changes, "t")
    monkeypatch.setattr("experiments.tables.recipes.read_table", lambda name: table)

    with pytest.raises(BadInput, match=message):
        cases("t", PRESET)


def test_an_unknown_preset_is_refused():
    with pytest.raises(
        BadInput, match=r"PRESET: there is no presets/moon\.yaml; take one of .*toybirds"
    ):
        read_preset("moon")


def test_a_number_comes_with_what_stands_beside_it():
    metrics = {
        "arms": {"a": {"top1": 70.5, "top1_std": 1.5}, "b": {"top1": 60.5, "top1_std": None}},
        "gain": {"a": {"top1": 2.0, "top1_ci": [1.0, 3.0]}},
    }

    assert find(metrics, "arms.a.top1") == {"value": 70.5, "deviation": 1.5}
    assert find(metrics, "arms.b.top1") == {"value": 60.5}
    assert find(metrics, "gain.a.top1") == {"value": 2.0, "interval": [1.0, 3.0]}
    assert find(metrics, "gain.baseline.top1") is None


ONCE = Setting(1, 3)


def test_a_table_without_experiments_says_missing_and_shows_the_papers_numbers():
    table = read_table("table5")
    case = case_of("table5", "5-shot Diff-Gen TI")
    row = record(case, table.columns, needed_stages(), ledger_of({}), 1)
    page = render(table, [row], "toybirds", ONCE)

    assert "| 5-shot Diff-Gen TI | missing | missing | missing | 18.26 |" in page


def test_one_replicate_keeps_its_own_interval_and_several_have_students():
    own = {"value": 2.0, "interval": [1.0, 3.0]}
    assert combine([own]) == own

    several = combine([own, {"value": 4.0, "interval": [0.0, 8.0]}])
    assert several == {"value": 3.0, "interval": [-9.7062, 15.7062]}  # 3 ± 12.7062 * 1


def test_a_row_is_the_mean_of_all_of_its_replicates_and_missing_without_one():
    table = read_table("table5")
    case = case_of("table5", "5-shot Diff-Mix TI")
    entries = {}
    for number, each in enumerate(replicates(case, 2)):
        fingerprint = fingerprints_of(each, seeded_stages())[0]
        metrics = {"evaluate": {"arms": {"diffmix": {"top1": 80.0 + 2 * number}}}}
        entries[fingerprint] = {"name": f"r{number}", "commit": "abc1234", "metrics": metrics}

    row = record(case, table.columns, seeded_stages(), ledger_of(entries), 2)
    assert row["measured"]["accuracy"]["value"] == 81.0
    assert (row["experiments"], row["commits"]) == (["r0", "r1"], ["abc1234"])

    fewer = record(case, table.columns, seeded_stages(), ledger_of(entries), 3)
    assert fewer["measured"] is None
    page = render(table, [fewer], "toybirds", Setting(3, 2))
    assert "| 5-shot Diff-Mix TI (2 of 3 replicates) | missing |" in page


def test_a_row_that_was_run_otherwise_than_its_table_says_so():
    row = {"name": "a", "measured": {}}
    assert name_row(row | {"replicates": 7}, Setting(7, 2)) == "a"
    assert name_row(row | {"replicates": 1}, Setting(7, 2)) == "a (1 run)"
    assert name_row(row | {"replicates": 3}, Setting(1, 3)) == "a (3 replicates)"
    assert name_row(row | {"replicates": None}, Setting(1, 3)) == "a"


def seeded_stages() -> dict:
    return {name: {"cmd": name, "params": ["seed"]} for name in ("evaluate", "assess")}


def test_a_row_of_older_code_stays_until_it_is_measured_again(tmp_path):
    older = {"name": "a", "arm": "x", "measured": {"top-1": {"value": 1.0}, "gain": {"value": 2.0}}}
    older |= {"commits": ["abc1234"], "experiments": ["e"], "replicates": 1}
    path = tmp_path / "table.json"
    columns = {"top-1": "evaluate a", "gain": "evaluate b"}
    path.write_text(json.dumps({"columns": columns, "rows": [older]}))

    missing = {"name": "a", "arm": "x", "measured": None, "replicates": None}
    missing |= {"commits": None, "experiments": None}
    other = missing | {"arm": "y"}
    made = missing | {"measured": {"top-1": {"value": 3.0}}, "commits": ["def5678"]}

    assert keep_published([missing, other], path, columns) == [older, other]
    assert keep_published([made], path, columns) == [made]
    (row,) = keep_published([missing], path, columns | {"gain": "evaluate c"})
    assert row["measured"] == {"top-1": {"value": 1.0}}
    assert keep_published([missing], tmp_path / "none.json", columns) == [missing]


def test_all_arms_of_an_experiment_are_served_by_its_line():
    one = case_of("table1", "Diff-Mix")
    other = case_of("table1", "CutMix")  # of the same experiment
    fingerprint = fingerprints_of(one, needed_stages())[0]

    assert lacking([one, other], needed_stages(), ledger_of({})) == [one, other]
    assert lacking([one, other], needed_stages(), ledger_of({fingerprint: {}})) == []


def test_minutes_are_those_of_the_experiments_not_of_the_rows():
    chosen = cases("table1", PRESET)
    first, second, third, *_ = plan(chosen, needed_stages(), PRESET)
    held = {first.fingerprint: {"seconds": 90.0}, second.fingerprint: {"seconds": 60.0}}
    held |= {third.fingerprint: {"seconds": None}, "another0": {"seconds": 600.0}}
    cost = spent(chosen, needed_stages(), ledger_of(held))

    assert str(cost) == "3 experiments, 2.5 min for the 2 that were timed"


@pytest.fixture
def series(monkeypatch, tmp_path) -> Series:
    """Table 1, of which nothing has been run."""
    monkeypatch.setattr("experiments.running.series.folder", lambda _preset: tmp_path)
    return Series(cases("table1", PRESET), 1, "toybirds")


def test_what_waits_in_the_queue_before_the_rows_is_told(series, monkeypatch, capsys):
    first, *_ = plan(series.cases, series.stages, PRESET)
    entries = {
        first.fingerprint: Entry("", "Queued", False),
        "aaaaaaaa": Entry("", "Queued", False),
        "bbbbbbbb": Entry("", "Failed", False),
    }
    monkeypatch.setattr(queue, "entries", lambda: entries)
    monkeypatch.setattr(queue, "finished", dict)
    series.run(dry=True)

    warning = "1 others wait in DVC's queue before these; `dvc queue remove --queued`"

    assert warning in capsys.readouterr().out


def test_whole_replicates_come_one_after_the_other(monkeypatch, tmp_path):
    monkeypatch.setattr("experiments.running.series.folder", lambda _preset: tmp_path)
    series = Series(cases("table1", PRESET, ["Diff-Mix", "DA-Fusion"]), 2, "toybirds")
    names = ["DA-Fusion r1", "Diff-Mix r1", "DA-Fusion r2", "Diff-Mix r2"]
    assert [case.name for case in series.cases] == names


@pytest.mark.parametrize(("number", "text"), [(91.4, "91.40"), (2957, "2,957"), (None, "")])
def test_printed_numbers_look_as_in_the_paper(number, text):
    assert show_printed(number) == text


@pytest.mark.parametrize("text", ["0", "two", "-1", "²"])
def test_a_number_of_jobs_that_is_none_is_refused(text, monkeypatch):
    monkeypatch.setenv("JOBS", text)
    with pytest.raises(BadInput, match=r"JOBS: .* is not a number of at least 1"):
        jobs()


def test_a_page_names_the_code_that_made_its_rows():
    abc, none = {"commits": ["abc"]}, {"commits": None}
    assert name_code([abc, none]) == "Made by the code of commit abc."
    assert name_code([abc, abc, {"commits": ["def"]}]) == (
        "Rows made by the code of several commits: 2 by that of abc, 1 by that of def."
    )


def test_a_row_of_several_commits_counts_once():
    both = {"commits": ["abc", "def"]}
    assert name_code([both, {"commits": ["abc"]}]) == (
        "Rows made by the code of several commits: 1 by that of abc and def, 1 by that of abc."
    )


def test_a_row_that_is_evaluated_reads_its_arms_training_and_no_other_metrics():
    columns = {"training loss": "train/{arm} loss", "faithful": "assess faithfulness.all"}
    case = case_of("epochs", "60 epochs CutMix")
    entry = {"metrics": {"train/cutmix": {"loss": 0.6}, "assess": {"faithfulness": {"all": 1.0}}}}

    assert read_values(case, columns, [entry]) == {"training loss": {"value": 0.6}}

"""The file that holds what experiments have measured."""

import json

import pytest

from experiments.running import ledger as module
from experiments.running.ledger import Ledger
from stages.shared.errors import BadInput

FILES = {
    "evaluate": {"arms": {"baseline": {"top1": 50.0}}},
    "train/baseline": {"loss": 0.5},
    "assess": {"faithfulness": {"all": 60.0}},
}


def ref(name: str) -> str:
    return f"refs/exps/ab/{'c' * 38}/{name}"


@pytest.fixture
def ledger(tmp_path, monkeypatch) -> Ledger:
    monkeypatch.setattr(module, "read_metrics", lambda _ref, name: FILES[name])
    return Ledger(tmp_path / "metrics/runs.jsonl")


def test_what_targets_have_measured_is_entered_and_nothing_else(ledger):
    ledger.collect({"aaaaaaaa": ("evaluate",)}, {"aaaaaaaa": ref("one-row-aaaaaaaa")})
    assert ledger["aaaaaaaa"] == {
        "name": "one-row-aaaaaaaa",
        "fingerprint": "aaaaaaaa",
        "commit": "abccccc",
        "seconds": None,
        "metrics": {name: FILES[name] for name in ("evaluate", "train/baseline")},
    }


def test_lines_are_read_back_and_sorted_by_name(ledger):
    refs = {"bbbbbbbb": ref("one-b-bbbbbbbb"), "aaaaaaaa": ref("one-a-aaaaaaaa")}
    ledger.collect(dict.fromkeys(refs, ("assess",)), refs)
    ledger.note_seconds({"aaaaaaaa": 12.5, "cccccccc": 1.0})
    ledger.write()

    names = [json.loads(line)["name"] for line in ledger.path.read_text().splitlines()]
    assert names == ["one-a-aaaaaaaa", "one-b-bbbbbbbb"]
    assert Ledger(ledger.path).entries == ledger.entries
    assert Ledger(ledger.path)["aaaaaaaa"]["seconds"] == 12.5


def test_a_line_of_older_code_makes_way_for_the_same_row(ledger):
    for fingerprint in ("aaaaaaaa", "bbbbbbbb"):
        refs = {fingerprint: ref(f"one-row-{fingerprint}")}
        ledger.collect({fingerprint: ("assess",)}, refs)

    assert list(ledger.entries) == ["bbbbbbbb"]


def test_what_has_no_experiment_is_not_entered(ledger):
    ledger.collect({"aaaaaaaa": ("assess",)}, {})
    ledger.write()
    assert "aaaaaaaa" not in ledger
    assert not ledger.path.exists()


def enter(ledger: Ledger, name: str) -> None:
    fingerprint = name[-8:]
    ledger.collect({fingerprint: ("assess",)}, {fingerprint: ref(name)})


def test_lines_that_another_call_has_written_since_stay(ledger):
    other = Ledger(ledger.path)
    enter(ledger, "one-a-aaaaaaaa")
    enter(other, "one-b-bbbbbbbb")
    ledger.write()
    other.write()

    assert sorted(Ledger(ledger.path).entries) == ["aaaaaaaa", "bbbbbbbb"]


def test_of_two_lines_of_one_row_the_writers_own_stays(ledger):
    other = Ledger(ledger.path)
    enter(ledger, "one-row-aaaaaaaa")
    ledger.write()
    enter(other, "one-row-bbbbbbbb")
    other.write()

    assert list(Ledger(ledger.path).entries) == ["bbbbbbbb"]


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", "[]", "{}", '{"fingerprint": '])
def test_a_broken_line_is_named(ledger, line):
    enter(ledger, "one-a-aaaaaaaa")
    ledger.write()
    ledger.path.write_text(ledger.path.read_text() + line + "\n")

    with pytest.raises(BadInput, match=r"runs\.jsonl: line 2 is no experiment"):
        Ledger(ledger.path)

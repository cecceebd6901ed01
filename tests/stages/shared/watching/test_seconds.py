"""What a result has cost is told, and is part of no result."""

from pathlib import Path

import pytest

from stages.shared.watching.seconds import FOLDER, note_seconds, read_seconds, tell_seconds


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_last_run_of_a_stage_counts_and_the_longest_comes_first():
    note_seconds("train@diffmix", 50)
    note_seconds("finetune", 10)
    note_seconds("finetune", 152.31)

    assert list(read_seconds(["diffmix"]).items()) == [("finetune", 152.3), ("train@diffmix", 50.0)]
    assert {path.parts[0] for path in Path().iterdir()} == {".work"}


def test_arms_that_are_gone_do_not_count():
    for stage in ("finetune", "train@diffmix", "train@gone", "train_real@gone"):
        note_seconds(stage, 1)

    assert list(read_seconds(["baseline", "diffmix"])) == ["finetune", "train@diffmix"]


def test_all_together_and_each_that_took_a_second():
    taken = {"finetune": 152.3, "train@diffmix": 50.0, "method": 0.4}
    assert tell_seconds(taken) == (
        "3 min 23 s when each stage last ran here; in seconds: finetune 152, train@diffmix 50"
    )


def test_a_file_that_a_full_disk_left_empty_is_none():
    note_seconds("plan", 2.0)
    (FOLDER / "filter").touch()
    assert read_seconds([]) == {"plan": 2.0}


def test_where_no_stage_ran_nothing_is_known():
    assert read_seconds([]) == {}

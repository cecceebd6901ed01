"""`python -m experiments.verify` in small repositories that DVC really runs."""

import json
import re
from pathlib import Path

import pytest

from experiments.reproducing.differences import Difference
from experiments.reproducing.environment import settings
from experiments.verify import (
    check_preset,
    committed_environment,
    conclude,
    render_environments,
    restore,
    surroundings,
)
from stages.shared.errors import BadInput
from tests.support.toy_repository import RANDOM, build, call, clone, commit, python


def test_settings_are_the_variables_that_move_results():
    assert settings({"HOME": "/", "OMP_NUM_THREADS": "2", "DIFFMIX_DEVICE": "cpu"}) == (
        "DIFFMIX_DEVICE=cpu OMP_NUM_THREADS=2"
    )


def test_an_environment_that_nobody_recorded_is_unknown():
    assert render_environments({"run": {"python": "3.11"}, "commit": None}).splitlines()[2:] == [
        "| python | 3.11 | unknown |"
    ]


HERE = {"processor": "here"}
ELSEWHERE = {"processor": "elsewhere"}


@pytest.mark.parametrize(
    ("verdict", "lock_digest", "expected"),
    [("bit-identical", "a", HERE), ("differs", "a", ELSEWHERE), ("bit-identical", "b", None)],
)
def test_committed_results_come_from_where_they_were_made_to_the_bit(
    verdict, lock_digest, expected
):
    environments = {"verified": HERE, "committed": ELSEWHERE}
    record = {"lock": "a", "environments": environments, "stages": {"make": {"verdict": verdict}}}
    assert committed_environment(record, lock_digest) == expected


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("toy"))


def verdicts(printed: str) -> dict[str, str]:
    """The verdicts by stage, as the printed table has them."""
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("|")]
    return {row[0]: row[1] for row in rows if row[0] in STAGES}


STAGES = ("make", "measure@plain", "measure@double")
SAME = dict.fromkeys(STAGES, "bit-identical")


@pytest.fixture(scope="module")
def verified(source) -> str:
    """What is printed while the workspace holds a change that is not committed."""
    (source / "make.py").write_text(RANDOM)
    printed = python(source, "experiments.verify")

    call(source, "git", "checkout", "-q", "make.py")
    return printed


def test_deterministic_stages_are_identical_whatever_the_workspace_holds(verified):
    assert verdicts(verified) == SAME


def test_every_stage_runs_though_git_has_the_outputs_of_some(verified):
    ran = re.findall(r"^Running stage '(.+)':", verified, re.MULTILINE)
    assert sorted(ran) == sorted(SAME)


def test_the_record_holds_the_table_and_the_environment(verified, source):
    record = json.loads((source / "metrics/verify.json").read_text())
    assert {name: stage["verdict"] for name, stage in record["stages"].items()} == SAME

    fields = {"processor", "vector flags", "threads", "python", "platform"}
    assert set(record["environments"]["verified"]) >= fields
    assert record["environments"]["committed"] is None


def test_two_runs_with_another_preset_are_compared_with_each_other(source, tmp_path):
    folder = clone(source, tmp_path / "clone")
    printed = python(folder, "experiments.verify", "--again", "--preset", "other")
    assert verdicts(printed) == {"make": "bit-identical", "measure@plain": "bit-identical"}
    assert "DIFFMIX_WORKERS=2" in printed
    assert not (folder / "metrics/verify.json").exists()


@pytest.mark.parametrize(
    ("preset", "line"),
    [
        ("other", "--preset other: is not what the committed results were made with; add --again"),
        ("missing", "PRESET: there is no presets/missing.yaml; take one of other, toy"),
    ],
)
def test_a_preset_that_cannot_be_compared_is_refused(preset, line, source):
    with pytest.raises(BadInput) as refused:
        check_preset(source, preset, again=False)

    assert str(refused.value) == line


def test_a_preset_of_the_committed_parameters_and_one_for_two_runs_are_taken(source):
    check_preset(source, "toy", again=False)
    check_preset(source, "other", again=True)


@pytest.fixture(scope="module")
def random(tmp_path_factory) -> Path:
    """The repository with a stage that writes random bytes."""
    return build(tmp_path_factory.mktemp("random"), make=RANDOM)


def test_random_bytes_differ_and_are_counted_beside_the_caches(random):
    printed = python(random, "experiments.verify", status=1)
    assert set(verdicts(printed).values()) == {"differs"}
    assert re.search(r"\| make \| differs \| data/make/numbers.bin: \d+ of 300 bytes \|", printed)


@pytest.mark.parametrize("cached", [True, False])
def test_committed_outputs_come_from_the_workspaces_cache_as_far_as_it_has_them(
    cached, random, tmp_path, monkeypatch
):
    monkeypatch.chdir(random if cached else clone(random, tmp_path / "work"))
    restored = restore(clone(random, tmp_path / "committed"))
    assert (restored.folder / "data/make/numbers.bin").exists() == cached
    assert (restored.folder / "metrics/plain.json").exists()


def test_a_run_sees_neither_a_shared_cache_nor_other_code(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.setenv("DVC_ROOT", "elsewhere")

    given = surroundings(tmp_path)
    assert not {"PYTHONPATH", "DVC_ROOT"} & set(given)
    assert given["DVC_GLOBAL_CONFIG_DIR"] == str(tmp_path / "GLOBAL_CONFIG")


def test_a_stage_that_fails_is_one_line(source, tmp_path):
    folder = clone(source, tmp_path / "clone")
    (folder / "make.py").write_text("raise SystemExit('make.py: broken')\n")
    commit(folder)

    printed = python(folder, "experiments.verify", status=1)
    message = "run: `dvc repro` fails in a fresh clone (see above); fix and commit that, "
    assert f"{message}then call again\n" in printed
    assert "Traceback" not in printed
    assert call(folder, "git", "status", "--porcelain") == ""


NEAR = {"stage": [Difference("metrics/score.json", 1, 14, 0.25)]}


@pytest.mark.parametrize(
    ("found", "tolerance", "status", "line"),
    [
        ({"stage": []}, 0.0, 0, "run and commit: bit-identical"),
        (NEAR, 0.5, 0, "run and commit: no number of a metric differs by more than 0.5"),
        (NEAR, 0.1, 1, "run and commit: differ by more than the tolerance of 0.1"),
        (NEAR, 0.0, 1, "run and commit: differ by more than the tolerance of 0"),
    ],
)
def test_the_exit_status_is_that_of_the_last_line(found, tolerance, status, line, capsys):
    assert conclude(found, tolerance, {"run": HERE, "commit": None}) == status
    assert capsys.readouterr().out.splitlines()[-1] == line

"""Tables and claims run through DVC's real queue, in a repository whose stages take no time."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments import run as runner
from experiments.running.ledger import Ledger
from experiments.running.series import Series
from tests.support import small_project
from tests.support.experiments_project import build

HOLD: dict[str, str] = {}  # the file for which the slow experiment waits


def call(folder: Path, *command: str, status: int = 0) -> str:
    return small_project.run(folder, *command, status=status, **HOLD)


def run(folder: Path, *words: str, status: int = 0) -> str:
    return call(folder, sys.executable, "-m", "experiments.run", *words, status=status)


def table(folder: Path, name: str) -> dict[str, dict]:
    """A table's rows by name."""
    return {
        row["name"]: row
        for row in json.loads((folder / f"metrics/paper/{name}.json").read_text())["rows"]
    }


def refs(folder: Path) -> list[str]:
    """The names of the experiments that are there."""
    names = call(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [name.split("/")[-1] for name in names if "celery" not in name]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository whose stages are tiny, with this project's experiments and shared modules."""
    HOLD["HOLD"] = str(tmp_path_factory.mktemp("hold") / "hold")
    return build(tmp_path_factory.mktemp("experiments"))


@contextmanager
def changed(path: Path) -> Iterator[None]:
    """A comment more, for a while."""
    text = path.read_text()
    path.write_text(text + "\n# changed\n")
    yield
    path.write_text(text)


@pytest.fixture(scope="module")
def dry(project) -> tuple[str, list[str]]:
    """What a dry call for table One says, and the experiments that it leaves."""
    return run(project, "one", "--dry"), refs(project)


@pytest.fixture(scope="module")
def first(project, dry) -> str:
    """What the first call for table One says; one of its rows fails."""
    return run(project, "one", status=1)


@contextmanager
def started(folder: Path, *words: str) -> Iterator[subprocess.Popen]:
    """A call in a session of its own, ended with the block."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "experiments.run", *words],
        cwd=folder,
        env=small_project.environment() | HOLD,
        start_new_session=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture(scope="module")
def interrupted(project, first) -> tuple[str, str]:
    """What a call for table Two says that is broken off, and the first line of its repetition."""
    hold = Path(HOLD["HOLD"])
    hold.touch()

    with started(project, "two") as began:
        deadline = time.monotonic() + 60
        while "Running" not in call(project, "dvc", "queue", "status"):
            assert time.monotonic() < deadline, "no experiment has begun"
            time.sleep(0.5)

        began.send_signal(signal.SIGTERM)  # handled as Ctrl-C is, which a background job ignores
        printed, _ = began.communicate(timeout=60)
        assert began.returncode == 130

    with started(project, "two") as again:
        opening = again.stdout.readline()
        hold.unlink()
        assert again.wait(120) == 0

    return printed, opening


@pytest.fixture(scope="module")
def claims(project, interrupted) -> dict:
    """metrics/claims.json of One's and Two's experiments."""
    run(project, "claims")
    return json.loads((project / "metrics/claims.json").read_text())


def test_the_plan_is_printed_and_nothing_runs(dry):
    said, left = dry
    assert "4 rows, 3 experiments: 0 are there, 3 to run" in said
    assert left == []


def test_rows_are_measured_at_their_experiments(project, first):
    rows = table(project, "one")

    names = ("baseline", "Diff-Mix", "more")
    assert [rows[name]["measured"]["top-1"]["value"] for name in names] == [25.0, 50.0, 75.0]
    assert rows["more"]["measured"]["gain"] == {"value": 50.0, "interval": [1, 2]}
    assert rows["baseline"]["experiments"] == rows["Diff-Mix"]["experiments"]
    assert rows["more"]["commits"] == [call(project, "git", "rev-parse", "HEAD")[:7]]


def test_a_failed_row_shows_its_log_and_is_missing_while_the_others_go_on(project, first):
    assert "stopped on purpose" in first
    assert table(project, "one")["broken"]["measured"] is None
    assert len(refs(project)) == 2
    assert "| broken | missing | missing |  |" in (project / "metrics/paper/one.md").read_text()


def test_what_is_there_is_not_run_again(project, first):
    output = run(project, "one", "baseline", "more")
    assert "2 rows, 2 experiments: 2 are there, 0 to run" in output
    assert len(refs(project)) == 2


def test_an_interrupted_call_goes_on_and_shares_what_another_table_ran(project, interrupted):
    broken_off, opening = interrupted
    assert broken_off.count("interrupted; the same call goes on") == 1
    assert opening == "2 rows, 2 experiments: 1 are there, 1 to run\n"

    rows = table(project, "two")

    assert rows["slow"]["measured"]["faithfulness"] == {"value": 62.5}
    assert rows["again"]["experiments"] == table(project, "one")["Diff-Mix"]["experiments"]
    assert sum(name.startswith("two-slow") for name in refs(project)) == 1


def test_columns_of_a_target_that_a_row_did_not_run_stay_empty(project, interrupted):
    assert "faithfulness" not in table(project, "two")["again"]["measured"]


def test_claims_are_measured_in_every_replicate(claims):
    """Seeds are 10, 20 and 30, which add a point, two and three to the synthetic arms."""
    found = claims["claims"]

    # 75 - 25 and more, and 75 - (50 + 25) / 2 and more
    values = [part["values"] for part in found["a"]["parts"]]
    assert values == [[51.0, 52.0, 53.0], [38.0, 38.5, 39.0]]
    assert found["b"]["parts"][0]["values"] == [50.0, 50.0, 50.0]
    assert [claim["verdict"] for claim in found.values()] == ["holds", "holds"]
    assert claims["experiments"] == 9  # two of One, and Two's slow, in three replicates


def test_the_page_and_the_figure_lie_beside_the_claims(project, claims):
    assert (
        "![Every comparison with its interval](claims.png)"
        in (project / "metrics/claims.md").read_text()
    )
    assert (project / "metrics/claims.png").read_bytes().startswith(b"\x89PNG")


def test_claims_of_which_less_has_run_now_leave_the_file_as_it_is(tmp_path, monkeypatch, capsys):
    class Failing(Series):
        """Rows of which none has run, nor runs now."""

        def __init__(self, *_):
            self.stages = {"evaluate": {"cmd": "evaluate"}, "assess": {"cmd": "assess"}}
            self.ledger = Ledger(tmp_path / "runs.jsonl")

        def run(self, dry: bool) -> int:
            return 0

    earlier = tmp_path / "claims.json"
    earlier.write_text('{"claims": {}}')  # nothing is missing in it
    monkeypatch.setattr(runner, "Series", Failing)
    monkeypatch.setattr(runner, "results_path", lambda *_: earlier)

    assert runner.run_claims("toybirds", dry=False) == 1
    assert f"{earlier}: left as it is, since it holds more than" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["claims.json"]
    assert earlier.read_text() == '{"claims": {}}'


def status_of(monkeypatch, *words: str) -> int:
    """The exit status of a call in this process, which keeps its own signals."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "argv", ["run", *words])
        patched.setattr(signal, "signal", lambda *_: None)
        with pytest.raises(SystemExit) as end:
            runner.main()
    return end.value.code


def test_a_dry_call_for_throughput_measures_nothing(monkeypatch, capsys):
    assert status_of(monkeypatch, "table11", "--dry") == 0
    assert "no experiments: it measures this machine" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["claims", "table11"])
def test_rows_cannot_be_chosen_of_what_has_none_of_its_own(name, monkeypatch, capsys):
    assert status_of(monkeypatch, name, "a row") == 2
    assert f"error: {name} has no rows to choose from" in capsys.readouterr().err


def test_a_table_in_replicates_has_their_mean_and_interval(project, claims, monkeypatch):
    monkeypatch.setitem(HOLD, "REPLICATES", "3")
    output = run(project, "one", "Diff-Mix", "more")
    assert "2 rows in 3 replicates, 6 experiments: 6 are there, 0 to run" in output

    row = table(project, "one-of-3")["more"]
    assert row["measured"]["top-1"] == {"value": 77.0, "interval": [74.5159, 79.4841]}
    assert len(row["experiments"]) == 3


def test_claims_of_other_numbers_of_replicates_have_files_of_their_own(
    project, claims, monkeypatch
):
    monkeypatch.setitem(HOLD, "REPLICATES", "2")
    assert "is not a number of at least 3" in run(project, "claims", status=1)

    monkeypatch.setitem(HOLD, "REPLICATES", "4")
    assert "3 to run" in run(project, "claims", "--dry")
    assert json.loads((project / "metrics/claims.json").read_text()) == claims


def test_a_changed_file_is_refused_before_anything_is_queued(project, first):
    with changed(project / "stages/tiny.py"):
        output = run(project, "one", "more", status=1)
    assert "stages/tiny.py: differs from the last commit; commit (or stash) first" in output


def test_a_change_that_no_result_depends_on_is_not_refused(project, first):
    """And the experiments' minutes are told at the end."""
    with changed(project / ".gitignore"):
        output = run(project, "one", "broken", status=1)

    assert "stopped on purpose" in output
    assert "0 experiments, 0 min in all" in output


def test_a_fresh_clone_has_the_recorded_rows_and_claims(project, claims, tmp_path):
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "results")
    call(tmp_path, "git", "clone", "-q", str(project), "clone")
    clone = tmp_path / "clone"

    assert refs(clone) == []
    assert "1 to run\n  one-broken" in run(clone, "one", "--dry")
    assert "0 to run" in run(clone, "claims")
    assert call(clone, "git", "status", "--porcelain") == ""

    tiny = clone / "stages/tiny.py"
    tiny.write_text(tiny.read_text() + "# a comment\n")
    call(clone, "git", "commit", "-qam", "other code")
    assert "of these were run by other code (commits " in run(clone, "one", "--dry")

"""What is made of the queue's states, with a queue that says what a test tells it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.running import queue, watch
from experiments.running.queue import Entry, Experiment
from experiments.running.watch import BUSY, STALLED, Outcome, Watch
from experiments.running.workspace import Workspace
from stages.shared.errors import BadInput
from stages.shared.running.work import work_folder

ONE = Experiment("table-row-aaaaaaaa", "aaaaaaaa", ("evaluate",), ())
PIPELINE = {"make": {"cmd": "make", "deps": ["code.py"]}}


class FakeQueue:
    """A queue, and a clock, that say what a test tells them, and record what is asked of them."""

    def __init__(self):
        self.now = 0.0
        self.log = "it broke"
        self.results: dict[str, str] = {}
        self.states: dict[str, Entry] = {}
        self.calls: list[str] = []

    def set(self, status: str, alive: bool = False) -> None:
        self.states = {ONE.fingerprint: Entry("revision", status, alive)}

    def clock(self) -> float:
        return self.now

    def finished(self) -> dict[str, str]:
        return self.results

    def entries(self) -> dict[str, Entry]:
        return self.states

    def log_tail(self, entry: Entry) -> str:
        return self.log

    def enqueue(self, experiment: Experiment) -> None:
        self.calls.append(f"enqueue {experiment.fingerprint}")

    def start(self, jobs: int) -> None:
        self.calls.append(f"start {jobs}")

    def abandon(self, entry: Entry) -> None:
        self.calls.append("abandon")
        self.set("Failed")


@pytest.fixture
def fake() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def session(tmp_path, monkeypatch, fake) -> Watch:
    """The watch of one experiment, in a workspace of three files."""
    monkeypatch.chdir(tmp_path)
    for name in ("code.py", "params.yaml", "dvc.yaml"):
        Path(name).write_text("1\n")
    return Watch([ONE], Workspace(PIPELINE), fake, fake.clock)


def test_seconds_run_from_the_first_look_that_sees_it_at_work(fake, session):
    session.look(first=True)
    fake.set("Running", alive=True)
    fake.now = 10

    assert session.look() == [ONE.name]

    fake.results = {ONE.fingerprint: "ref"}
    fake.now = 52
    session.look()

    assert session.ended == {ONE.fingerprint: Outcome(failed=False, seconds=42)}


def test_seconds_of_what_ran_before_the_first_look_are_unknown(fake, session):
    fake.set("Running", alive=True)
    session.look(first=True)
    fake.results = {ONE.fingerprint: "ref"}
    fake.now = 52
    session.look()

    assert session.ended[ONE.fingerprint].seconds is None


@pytest.mark.parametrize("status", ["Failed", "Success"])
def test_what_left_the_queue_without_a_result_has_failed(fake, session, status, capsys):
    fake.set(status)
    session.look()

    assert session.ended[ONE.fingerprint].failed
    assert "table-row-aaaaaaaa failed; the end of its log:\nit broke" in capsys.readouterr().out


def test_one_that_met_another_at_work_is_queued_again(fake, session):
    fake.set("Failed")
    fake.log = f"synthesize: another run of synthesize {BUSY}, or end it first"
    session.look()

    assert fake.calls == ["enqueue aaaaaaaa"]
    assert session.waiting == {ONE.fingerprint: ONE}


def test_the_stages_say_so_when_they_meet_another_at_work(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with (
        work_folder("train", "key"),
        pytest.raises(BadInput, match=BUSY),
        work_folder("train", "key"),
    ):
        pass


def test_what_a_dead_worker_left_is_queued_again(fake, session):
    fake.set("Running", alive=False)
    session.start(jobs=2)
    session.look()
    fake.now = STALLED + 1
    session.look()

    assert session.is_stalled()

    session.recover(jobs=2)

    assert fake.calls == ["start 2", "abandon", "enqueue aaaaaaaa", "start 2"]
    assert not session.is_stalled()


def test_what_was_seen_without_a_process_only_now_is_left_alone(fake, session):
    fake.set("Queued")
    session.start(jobs=1)
    fake.now = STALLED + 1
    fake.set("Running", alive=False)
    session.look()
    session.recover(jobs=1)

    assert fake.calls == ["start 1", "start 1"]


def test_a_submission_that_takes_long_is_no_stall(fake, session, monkeypatch):
    """An older worker takes the experiment up at once, and has no process yet."""

    def enqueue(experiment: Experiment) -> None:
        fake.calls.append("enqueue")
        fake.now += 2 * STALLED
        fake.set("Running", alive=False)

    steps = [
        lambda: None,
        lambda: fake.set("Running", alive=True),
        lambda: fake.results.update({ONE.fingerprint: "ref"}),
    ]
    turns = iter(steps)
    fake.enqueue = enqueue
    monkeypatch.setattr(watch.time, "sleep", lambda seconds: next(turns)())

    watch.run(session, jobs=1)

    assert fake.calls == ["enqueue", "start 1"]


@pytest.mark.parametrize("name", ["code.py", "params.yaml", "dvc.yaml"])
def test_a_file_that_changed_since_the_call_began_is_not_taken_along(fake, session, name):
    Path(name).write_text("2, and longer\n")

    with pytest.raises(BadInput, match=f"{name}: has changed since this call began; commit it"):
        session.submit()

    assert fake.calls == []


def test_nor_where_one_is_queued_again(fake, session):
    fake.set("Failed")
    fake.log = BUSY
    Path("code.py").write_text("2, and longer\n")

    with pytest.raises(BadInput, match=r"code\.py: has changed"):
        session.look()


@pytest.mark.parametrize(
    ("words", "alive"), [(["dvc", "exp", "exec-run", "--infofile", "x"], True), (["sh"], False)]
)
def test_only_a_process_of_dvcs_is_an_experiments(words, alive, monkeypatch):
    monkeypatch.setattr(
        queue.psutil, "Process", lambda number: SimpleNamespace(cmdline=lambda: words)
    )

    assert queue.is_process(1) is alive


def test_a_process_that_is_gone_is_none():
    done = subprocess.Popen(["true"])
    done.wait()
    assert not queue.is_process(done.pid)


def test_work_in_progress_is_not_stalled(fake, session):
    session.start(jobs=1)
    fake.set("Running", alive=True)
    fake.now = STALLED + 1
    session.look()

    assert not session.is_stalled()


@pytest.mark.parametrize(
    ("status", "calls"), [("Running", []), ("Queued", []), ("Failed", ["enqueue aaaaaaaa"])]
)
def test_only_what_neither_waits_nor_runs_is_queued(fake, session, status, calls):
    fake.set(status)
    session.submit()
    assert fake.calls == calls

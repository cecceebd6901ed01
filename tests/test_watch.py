"""What is made of the queue's states, with a queue that says what a test tells it."""

import pytest

from experiments import queue, watch
from experiments.queue import Entry, Experiment
from experiments.watch import BUSY, Outcome, Watch
from stages.shared.errors import BadInput
from stages.shared.work import work_folder

ONE = Experiment("table-row-aaaaaaaa", "aaaaaaaa", ("evaluate",), ())


class Queue:
    """Stands for experiments.queue."""

    def __init__(self):
        self.now, self.log, self.there = 0.0, "it broke", dict[str, str]()
        self.states, self.calls = dict[str, Entry](), list[str]()

    def set(self, status: str, alive: bool = False) -> None:
        self.states = {ONE.mark: Entry("revision", status, alive)}


@pytest.fixture
def fake(monkeypatch) -> Queue:
    fake = Queue()
    monkeypatch.setattr(queue, "entries", lambda: fake.states)
    monkeypatch.setattr(queue, "finished", lambda: fake.there)
    monkeypatch.setattr(queue, "log_tail", lambda entry: fake.log)
    monkeypatch.setattr(queue, "enqueue", lambda experiment: fake.calls.append(f"enqueue {experiment.mark}"))
    monkeypatch.setattr(queue, "abandon", lambda entry: (fake.calls.append("abandon"), fake.set("Failed")))
    monkeypatch.setattr(queue, "start", lambda jobs: fake.calls.append(f"start {jobs}"))
    monkeypatch.setattr(watch.time, "monotonic", lambda: fake.now)
    return fake


def test_seconds_run_from_the_first_look_that_sees_it_at_work(fake):
    session = Watch([ONE])
    session.look(first=True)
    fake.set("Running", alive=True)
    fake.now = 10
    assert session.look() == [ONE.name]
    fake.there, fake.now = {ONE.mark: "ref"}, 52
    session.look()
    assert session.ended == {ONE.mark: Outcome(failed=False, seconds=42)}


def test_seconds_of_what_ran_before_the_first_look_are_unknown(fake):
    fake.set("Running", alive=True)
    session = Watch([ONE])
    session.look(first=True)
    fake.there, fake.now = {ONE.mark: "ref"}, 52
    session.look()
    assert session.ended[ONE.mark].seconds is None


@pytest.mark.parametrize("status", ["Failed", "Success"])
def test_what_left_the_queue_without_a_result_has_failed(fake, status, capsys):
    session = Watch([ONE])
    fake.set(status)
    session.look()
    assert session.ended[ONE.mark].failed
    assert "table-row-aaaaaaaa failed; the end of its log:\nit broke" in capsys.readouterr().out


def test_one_that_met_another_at_work_is_queued_again(fake):
    session = Watch([ONE])
    fake.set("Failed")
    fake.log = f"synthesize: another run of synthesize {BUSY}, or end it first"
    session.look()
    assert fake.calls == ["enqueue aaaaaaaa"]
    assert session.waiting == {ONE.mark: ONE}


def test_the_stages_say_so_when_they_meet_another_at_work(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with work_folder("train", "mark"), pytest.raises(BadInput, match=BUSY), work_folder("train", "mark"):
        pass


def test_what_a_dead_worker_left_is_queued_again(fake):
    session = Watch([ONE])
    fake.set("Running", alive=False)
    fake.now = watch.STALLED + 1
    session.look()
    assert session.is_stalled()
    session.recover(jobs=2)
    assert fake.calls == ["abandon", "enqueue aaaaaaaa", "start 2"]
    assert not session.is_stalled()


def test_work_in_progress_is_not_stalled(fake):
    session = Watch([ONE])
    fake.set("Running", alive=True)
    fake.now = watch.STALLED + 1
    session.look()
    assert not session.is_stalled()


@pytest.mark.parametrize(("status", "calls"), [("Running", []), ("Queued", []), ("Failed", ["enqueue aaaaaaaa"])])
def test_only_what_neither_waits_nor_runs_is_queued(fake, status, calls):
    fake.set(status)
    watch.submit([ONE])
    assert fake.calls == calls

"""What is made of the queue's states, with a queue in memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.running import queue, watch
from experiments.running.queue import Entry, Experiment
from experiments.running.watch import BUSY, POLL, SPARING, STALLED, Outcome, Watch
from experiments.running.workspace import Workspace
from stages.shared.errors import BadInput
from stages.shared.running.work import work_folder

ONE = Experiment("table-row-aaaaaaaa", "aaaaaaaa", ("evaluate",), ())
TWO = Experiment("table-other-bbbbbbbb", "bbbbbbbb", ("evaluate",), ())
PIPELINE = {"make": {"cmd": "make", "deps": ["code.py"]}}


class FakeQueue:
    """A queue in memory, with its clock.

    A test moves the experiments on, as a worker would; `events` says what was asked of the queue.
    """

    def __init__(self):
        self.now = 0.0
        self.refs: dict[str, str] = {}
        self.states: dict[str, Entry] = {}
        self.logs: dict[str, str] = {}
        self.events: list[str] = []
        self.turns: list[Callable[[], None]] = []  # what happens in each sleep

    def begin(self, experiment: Experiment = ONE) -> None:
        self._set(experiment.fingerprint, "Running", alive=True)

    def die(self, experiment: Experiment = ONE) -> None:
        """The worker ends without a word: DVC goes on saying "Running"."""
        self._set(experiment.fingerprint, "Running")

    def fail(self, log: str, experiment: Experiment = ONE) -> None:
        self._set(experiment.fingerprint, "Failed")
        self.logs[experiment.fingerprint] = log

    def succeed(self, experiment: Experiment = ONE) -> None:
        self._set(experiment.fingerprint, "Success")
        self.refs[experiment.fingerprint] = f"refs/exps/{experiment.name}"

    def _set(self, fingerprint: str, status: str, alive: bool = False) -> None:
        self.states[fingerprint] = Entry(fingerprint, status, alive)

    def status(self, experiment: Experiment = ONE) -> str:
        return self.states[experiment.fingerprint].status

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.turns.pop(0)()

    def finished(self) -> dict[str, str]:
        return dict(self.refs)

    def entries(self) -> dict[str, Entry]:
        return dict(self.states)

    def log_tail(self, entry: Entry) -> str:
        return self.logs.get(entry.revision, "")

    def enqueue(self, experiment: Experiment, old: Entry | None) -> None:
        assert old == self.states.get(experiment.fingerprint)
        self.events.append(f"enqueue {experiment.fingerprint}")
        self._set(experiment.fingerprint, "Queued")

    def start(self, jobs: int) -> None:
        self.events.append(f"start {jobs}")

    def abandon(self, entry: Entry) -> None:
        self.events.append(f"abandon {entry.revision}")
        self._set(entry.revision, "Failed")


@pytest.fixture
def fake() -> FakeQueue:
    return FakeQueue()


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    """Three files, which is what the experiments depend on."""
    monkeypatch.chdir(tmp_path)
    for name in ("code.py", "params.yaml", "dvc.yaml"):
        Path(name).write_text("1\n")
    return Workspace(PIPELINE)


@pytest.fixture
def session(workspace, fake) -> Watch:
    """The watch of one experiment."""
    return Watch([ONE], workspace, fake, fake.clock)


def test_seconds_run_from_the_first_look_that_sees_it_at_work(fake, session):
    session.submit()
    session.look(first=True)
    fake.begin()
    fake.now = 10

    assert session.look() == [ONE.name]

    fake.succeed()
    fake.now = 52
    session.look()

    assert session.ended == {ONE.fingerprint: Outcome(failed=False, seconds=42)}


def test_seconds_of_what_ran_before_the_first_look_are_unknown(fake, session):
    fake.begin()
    session.look(first=True)
    fake.succeed()
    fake.now = 52
    session.look()

    assert session.ended == {ONE.fingerprint: Outcome(failed=False, seconds=None)}


def test_a_failed_one_shows_its_log_and_the_others_go_on(fake, workspace, capsys):
    fake.turns = [
        fake.begin,
        lambda: fake.fail("it broke"),
        lambda: fake.begin(TWO),
        lambda: fake.succeed(TWO),
    ]
    session = Watch([ONE, TWO], workspace, fake, fake.clock)
    watch.run(session, jobs=1, sleep=fake.sleep)

    assert session.ended == {
        ONE.fingerprint: Outcome(failed=True, seconds=POLL),
        TWO.fingerprint: Outcome(failed=False, seconds=POLL),
    }
    assert "table-row-aaaaaaaa failed; the end of its log:\nit broke" in capsys.readouterr().out


def test_what_failed_in_an_earlier_call_is_run_again(fake, session):
    fake.fail("it broke")
    fake.turns = [fake.begin, fake.succeed]

    watch.run(session, jobs=1, sleep=fake.sleep)

    assert session.ended == {ONE.fingerprint: Outcome(failed=False, seconds=POLL)}


def test_success_without_a_result_has_failed(fake, session, capsys):
    fake.succeed()
    fake.refs.clear()
    session.look()

    assert session.ended[ONE.fingerprint].failed
    assert "table-row-aaaaaaaa failed" in capsys.readouterr().out


def test_one_that_met_another_at_work_waits_once_more(fake, session, capsys):
    fake.fail(f"synthesize: another run of synthesize {BUSY}, or end it first")
    session.look()

    assert fake.status() == "Queued"
    assert session.waiting == {ONE.fingerprint: ONE}
    assert "failed" not in capsys.readouterr().out


def test_the_stages_say_so_when_they_meet_another_at_work(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    with (
        work_folder("train", "key"),
        pytest.raises(BadInput, match=BUSY),
        work_folder("train", "key"),
    ):
        pass


def test_what_a_dead_worker_left_is_queued_again(fake, session):
    fake.die()
    session.start(jobs=2)
    session.look()
    fake.now = STALLED + 1
    session.look()

    assert session.is_stalled()

    session.recover(jobs=2)

    assert fake.events == ["start 2", "abandon aaaaaaaa", "enqueue aaaaaaaa", "start 2"]
    assert not session.is_stalled()


def test_a_call_outlives_the_death_of_its_worker(fake, session):
    """The seconds are those of the second run."""
    looks = int(STALLED / POLL) + 1
    fake.turns = [
        fake.begin,
        *[fake.die] * looks,
        fake.begin,
        fake.succeed,
    ]
    watch.run(session, jobs=1, sleep=fake.sleep)

    assert fake.events.count("enqueue aaaaaaaa") == 2
    assert session.ended == {ONE.fingerprint: Outcome(failed=False, seconds=POLL)}


def test_what_was_seen_without_a_process_only_now_is_left_alone(fake, session):
    session.submit()
    session.start(jobs=1)
    fake.now = STALLED + 1
    fake.die()
    session.look()
    session.recover(jobs=1)

    assert fake.status() == "Running"
    assert fake.events == ["enqueue aaaaaaaa", "start 1", "start 1"]


def test_a_submission_that_takes_long_is_no_stall(workspace):
    """An older worker takes the experiment up at once, and has no process yet."""

    class SlowQueue(FakeQueue):
        def enqueue(self, experiment: Experiment, old: Entry | None) -> None:
            super().enqueue(experiment, old)
            self.now += 2 * STALLED
            self.die(experiment)

    slow = SlowQueue()
    slow.turns = [lambda: None, slow.begin, slow.succeed]
    session = Watch([ONE], workspace, slow, slow.clock)
    watch.run(session, jobs=1, sleep=slow.sleep)

    assert slow.events == ["enqueue aaaaaaaa", "start 1"]


def test_slow_looks_are_rarer(workspace):
    """A look is paid by the experiments, which have the same cores."""

    class SlowQueue(FakeQueue):
        def __init__(self):
            super().__init__()
            self.pauses: list[float] = []

        def entries(self) -> dict[str, Entry]:
            self.now += 2
            return super().entries()

        def sleep(self, seconds: float) -> None:
            self.pauses.append(seconds)
            super().sleep(seconds)

    slow = SlowQueue()
    slow.turns = [slow.begin, lambda: None, slow.succeed]
    watch.run(Watch([ONE], workspace, slow, slow.clock), jobs=1, sleep=slow.sleep)

    queueing = 2  # the one more time that the queue's entries are asked for
    assert slow.pauses == [2 * SPARING - queueing, 2 * SPARING, 2 * SPARING]


def test_a_long_submission_looks_as_rarely(workspace):
    """A look takes the longer, the more has ended."""

    class SlowQueue(FakeQueue):
        looks = 0

        def entries(self) -> dict[str, Entry]:
            self.looks += 1
            self.now += 2
            return super().entries()

        def enqueue(self, experiment: Experiment, old: Entry | None) -> None:
            super().enqueue(experiment, old)
            self.now += 3

    many = [
        Experiment(f"row-{number:08x}", f"{number:08x}", ("evaluate",), ()) for number in range(100)
    ]
    slow = SlowQueue()
    Watch(many, workspace, slow, slow.clock).submit(jobs=2)

    assert slow.looks < 10


def test_one_idle_look_between_two_experiments_is_no_stall(fake, workspace):
    session = Watch([ONE, TWO], workspace, fake, fake.clock)
    session.submit()
    session.start(jobs=1)
    fake.now = 2 * STALLED
    session.look()

    assert not session.is_stalled()

    session.look()

    assert session.is_stalled()


def test_work_in_progress_is_not_stalled(fake, session):
    session.start(jobs=1)
    fake.begin()
    fake.now = STALLED + 1
    session.look()

    assert not session.is_stalled()


def test_a_second_call_queues_only_what_neither_waits_nor_runs_nor_is_finished(fake, workspace):
    fake.begin(TWO)
    session = Watch([ONE, TWO], workspace, fake, fake.clock)
    session.submit()
    session.submit()

    assert fake.events == ["enqueue aaaaaaaa"]

    fake.succeed()
    fake.fail("it broke", TWO)
    Watch([ONE, TWO], workspace, fake, fake.clock).submit()

    assert fake.events == ["enqueue aaaaaaaa", "enqueue bbbbbbbb"]


@pytest.mark.parametrize("name", ["code.py", "params.yaml", "dvc.yaml"])
def test_a_file_that_changed_since_the_call_began_is_not_taken_along(fake, session, name):
    Path(name).write_text("2, and longer\n")

    with pytest.raises(BadInput, match=f"{name}: has changed since this call began; commit it"):
        session.submit()

    assert fake.events == []


def test_nor_where_one_is_queued_again(fake, session):
    fake.fail(BUSY)
    Path("code.py").write_text("2, and longer\n")

    with pytest.raises(BadInput, match=r"code\.py: has changed"):
        session.look()

    assert fake.events == []


@pytest.mark.parametrize(("word", "alive"), [("exec-run", True), ("serve", False)])
def test_only_a_process_of_dvcs_is_an_experiments(word, alive):
    command = [sys.executable, "-c", "print('here', flush=True); input()", word]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}

    with subprocess.Popen(command, **pipes) as process:
        process.stdout.readline()  # before that the system may not know its words yet
        assert queue.is_process(process.pid) is alive


def test_a_process_that_is_gone_is_none():
    done = subprocess.Popen(["true"])
    done.wait()
    assert not queue.is_process(done.pid)

"""Run experiments through DVC's queue and stay until they have ended; a second call goes on where the first stopped."""

import math
import time
from typing import NamedTuple

from tqdm import tqdm

from experiments.running import queue
from experiments.running.queue import Entry, Experiment
from experiments.running.workspace import Workspace

POLL, STALLED = (
    5.0,
    30.0,
)  # seconds between two looks, and without a process before the queue is put right
BUSY = "is at work; wait for it"  # what stages/shared/running/work.py tells the second of two runs


class Outcome(NamedTuple):
    """How an experiment ended; its seconds are known where it was watched from its start."""

    failed: bool
    seconds: float | None


class Watch:
    """The experiments that have not ended yet, and how the others did."""

    def __init__(self, experiments: list[Experiment], workspace: Workspace):
        self.workspace = workspace
        self.waiting = {experiment.mark: experiment for experiment in experiments}
        self.ended: dict[str, Outcome] = {}
        self._begun: dict[str, float | None] = {}  # None: unknown
        self._dead: dict[str, float] = {}  # since when: running, as DVC says, but without a process
        self._moved = math.inf  # no worker was started yet

    def submit(self) -> None:
        """Queue what is not there, and neither waits nor runs."""
        known = queue.finished().keys() | {
            mark for mark, entry in queue.entries().items() if entry.status in ("Queued", "Running")
        }
        lacking = [experiment for mark, experiment in self.waiting.items() if mark not in known]
        for experiment in tqdm(lacking, desc="queue", unit="experiment"):
            self._enqueue(experiment)

    def _enqueue(self, experiment: Experiment) -> None:
        self.workspace.check_same()
        queue.enqueue(experiment)

    def start(self, jobs: int) -> None:
        queue.start(jobs)
        self._moved = time.monotonic()

    def look(self, first: bool = False) -> list[str]:
        """Take note of what has begun and ended since the last look; returns the names of what is at work.

        `first` is before any worker was started here: what is at work then began at a time that nobody knows.
        """
        entries, now = queue.entries(), time.monotonic()
        there = queue.finished()  # after the entries: a run that ends between the two is in here
        working = [mark for mark in self.waiting if mark in entries and entries[mark].alive]
        self._dead = {
            mark: self._dead.get(mark, now) for mark in self.waiting if is_dead(entries.get(mark))
        }
        for mark in working:
            self._begun.setdefault(mark, None if first else now)
        over = [mark for mark in self.waiting if has_ended(mark, entries, there)]
        for mark in over:
            if mark in there:
                self._end(mark, failed=False, now=now)
            else:
                self._fail(mark, entries[mark], now)
        if working or over:
            self._moved = now
        return [self.waiting[mark].name for mark in working if mark in self.waiting]

    def _end(self, mark: str, failed: bool, now: float) -> None:
        begun = self._begun.get(mark)
        self.ended[mark] = Outcome(failed, None if begun is None else round(now - begun, 1))
        del self.waiting[mark]

    def _fail(self, mark: str, entry: Entry, now: float) -> None:
        """Show the end of the log; an experiment that only met another at work on the same stage waits once more."""
        log, experiment = queue.log_tail(entry), self.waiting[mark]
        if BUSY in log:
            self._begun.pop(mark, None)
            self._enqueue(experiment)
            return
        tqdm.write(f"{experiment.name} failed; the end of its log:\n{log}")
        self._end(mark, failed=True, now=now)

    def is_stalled(self) -> bool:
        return bool(self.waiting) and time.monotonic() - self._moved > STALLED

    def recover(self, jobs: int) -> None:
        """Queue anew what a dead worker left as running, or what somebody has taken out, and start a worker.

        One look does not tell a dead one: a worker that has just begun has no process yet.
        """
        now = time.monotonic()
        for mark, entry in queue.entries().items():
            if is_dead(entry) and now - self._dead.get(mark, now) >= STALLED:
                queue.abandon(entry)
                self._begun.pop(mark, None)
        self.submit()
        self.start(jobs)


def is_dead(entry: Entry | None) -> bool:
    return entry is not None and entry.status == "Running" and not entry.alive


def has_ended(mark: str, entries: dict[str, Entry], there: dict[str, str]) -> bool:
    """Success without a result counts, as a failure: DVC could not collect it."""
    return mark in there or (mark in entries and entries[mark].status in ("Failed", "Success"))


def run(watch: Watch, jobs: int) -> None:
    """Queue the experiments, start workers and wait for the end of all; a failed one does not stop the others."""
    watch.submit()
    watch.look(first=True)
    watch.start(jobs)
    with tqdm(
        total=len(watch.waiting) + len(watch.ended), desc="run", unit="experiment", smoothing=0
    ) as bar:
        while watch.waiting:
            time.sleep(POLL)
            bar.set_postfix_str(", ".join(watch.look()))
            bar.update(len(watch.ended) - bar.n)
            if watch.is_stalled():
                watch.recover(jobs)

"""Run experiments through DVC's queue and stay until they have ended.

`dvc exp run --run-all` waits, too, but runs whatever anybody has queued, tells no experiment's
seconds, and waits for ever for one whose worker has died. Here a table's own experiments are
watched: a second call goes on where the first stopped, what a dead worker left is queued again, and
a failed experiment shows the end of its log while the others go on.
"""

import math
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from experiments.running.queue import Entry, Experiment
from experiments.running.workspace import Workspace
from stages.shared.watching.progress import Progress

POLL = 5.0  # seconds between two looks, at least
SPARING = 30  # and so many times what a look takes, which is taken from the experiments
STALLED = 30.0  # seconds without a process before the queue is put right
BUSY = "is at work; wait for it"  # what stages/shared/running/work.py tells the second of two runs


class Queue(Protocol):
    """What is asked of experiments/running/queue.py."""

    def finished(self) -> dict[str, str]: ...
    def entries(self) -> dict[str, Entry]: ...
    def enqueue(self, experiment: Experiment, old: Entry | None) -> None: ...
    def start(self, jobs: int) -> None: ...
    def abandon(self, entry: Entry) -> None: ...
    def log_tail(self, entry: Entry) -> str: ...


class Outcome(NamedTuple):
    """How an experiment ended; its seconds are known where it was watched from its start."""

    failed: bool
    seconds: float | None


class Watch:
    """The experiments that have not ended yet, and how the others did; all by fingerprint."""

    def __init__(
        self,
        experiments: list[Experiment],
        workspace: Workspace,
        queue: Queue,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.workspace = workspace
        self.queue = queue
        self.clock = clock
        self.waiting = {experiment.fingerprint: experiment for experiment in experiments}
        self.ended: dict[str, Outcome] = {}
        self._begun: dict[str, float | None] = {}  # None: unknown
        self._dead: dict[str, float] = {}  # when it was first seen running without a process
        self._moved = math.inf  # no worker was started yet
        self._idle = 0  # looks in a row that saw nothing at work
        self._due = -math.inf  # when the next look is

    def submit(self, jobs: int = 0) -> None:
        """Queue what is not finished, and neither waits nor runs.

        Workers, so many as `jobs`, begin as soon as each has something to do: hundreds of
        experiments take minutes to queue.
        """
        entries = self.queue.entries()
        known = set(self.queue.finished())
        known |= {key for key, entry in entries.items() if entry.status in ("Queued", "Running")}

        lacking = [experiment for key, experiment in self.waiting.items() if key not in known]
        for number, experiment in enumerate(Progress(lacking, desc="queue", unit="experiment"), 1):
            self._enqueue(experiment, entries.get(experiment.fingerprint))
            if number == jobs < len(lacking):
                self.start(jobs)
            elif number > jobs > 0 and self.pause() == 0:
                self.look()

    def _enqueue(self, experiment: Experiment, old: Entry | None) -> None:
        self.workspace.check_same()
        self.queue.enqueue(experiment, old)

    def start(self, jobs: int) -> None:
        self.queue.start(jobs)
        self._moved = self.clock()

    def look(self, first: bool = False) -> list[str]:
        """Note what has begun and ended since the last look; returns the names of what is at work.

        The first look is before any worker was started here: nobody knows when that began which is
        at work then, and what failed in an earlier call is to be queued again.
        """
        began = self.clock()
        entries = self.queue.entries()
        now = self.clock()
        # Asked after the entries, so that what ends between the two does not count as failed.
        finished = self.queue.finished()

        working = [key for key in self.waiting if key in entries and entries[key].alive]
        for fingerprint in working:
            self._begun.setdefault(fingerprint, None if first else now)
        dead = [key for key in self.waiting if is_dead(entries.get(key))]
        self._dead = {key: self._dead.get(key, now) for key in dead}

        ended = finished if first else has_ended(self.waiting, entries, finished)
        over = [key for key in self.waiting if key in ended]
        for fingerprint in over:
            if fingerprint in finished:
                self._end(fingerprint, failed=False, now=now)
            else:
                self._fail(fingerprint, entries[fingerprint], now)

        self._idle += 1
        if working or over:
            self._moved = now
            self._idle = 0
        self._due = now + max(POLL, SPARING * (now - began))
        return [self.waiting[key].name for key in working if key in self.waiting]

    def pause(self) -> float:
        """Seconds until the next look is due."""
        return max(0.0, self._due - self.clock())

    def _end(self, fingerprint: str, failed: bool, now: float) -> None:
        begun = self._begun.get(fingerprint)
        seconds = None if begun is None else round(now - begun, 1)
        self.ended[fingerprint] = Outcome(failed, seconds)
        del self.waiting[fingerprint]

    def _fail(self, fingerprint: str, entry: Entry, now: float) -> None:
        """Show the end of the log; one that only met another run of a stage waits once more."""
        log = self.queue.log_tail(entry)
        experiment = self.waiting[fingerprint]
        if BUSY in log:
            self._begun.pop(fingerprint, None)
            self._enqueue(experiment, entry)
            return

        Progress.write(f"{experiment.name} failed; the end of its log:\n{log}")
        self._end(fingerprint, failed=True, now=now)

    def is_stalled(self) -> bool:
        """Whether nothing has been at work for a while; one look may fall between two of them."""
        still = self.clock() - self._moved > STALLED
        return bool(self.waiting) and still and self._idle > 1

    def recover(self, jobs: int) -> None:
        """Queue anew what a dead worker left as running, or what somebody took out; start a worker.

        One look does not tell a dead one: a worker that has just begun has no process yet.
        """
        now = self.clock()
        for fingerprint, entry in self.queue.entries().items():
            if is_dead(entry) and now - self._dead.get(fingerprint, now) >= STALLED:
                self.queue.abandon(entry)
                self._begun.pop(fingerprint, None)

        self.submit()
        self.start(jobs)


def is_dead(entry: Entry | None) -> bool:
    return entry is not None and entry.status == "Running" and not entry.alive


def has_ended(
    fingerprints: Iterable[str], entries: dict[str, Entry], finished: dict[str, str]
) -> set[str]:
    """Success without a result counts, as a failure: DVC could not collect it."""
    left = {key for key, entry in entries.items() if entry.status in ("Failed", "Success")}
    return set(fingerprints) & (left | set(finished))


def run(
    watch: Watch,
    jobs: int,
    keep: Callable[[], None] = lambda: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Queue the experiments, start workers, and wait for the end of all.

    `keep` is called whenever some have ended.
    """
    watch.look(first=True)
    watch.submit(jobs)
    watch.start(jobs)

    total = len(watch.waiting) + len(watch.ended)
    with Progress(total=total, desc="run", unit="experiment", smoothing=0) as bar:
        while watch.waiting:
            sleep(watch.pause())
            bar.set_postfix_str(", ".join(watch.look()))

            if len(watch.ended) > bar.n:
                keep()
            bar.update(len(watch.ended) - bar.n)

            if watch.is_stalled():
                watch.recover(jobs)

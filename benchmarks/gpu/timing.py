"""Times pieces of work side by side: a warm-up, then rounds in which each takes its turn.

A round goes through all of them, so that a slow minute of the machine slows no piece alone.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple

import torch

from stages.shared.running.runtime import cores, device, seed_everything

Row = dict[str, Any]  # a case's result, as JSON takes it
SKIPPED = {"skipped": "the budget was spent"}


class Budget:
    """Seconds after which nothing new is begun."""

    def __init__(self, seconds: float, began: float | None = None):
        """began: when they began, by `time.monotonic`; now, if that is not given."""
        self.end = (time.monotonic() if began is None else began) + seconds

    def is_spent(self) -> bool:
        return time.monotonic() >= self.end


def our_settings() -> None:
    """What the stages ask torch for: the same bits in every run."""
    seed_everything(0)


def stock_settings() -> None:
    """What a user finds who asks for nothing: any kernel, all cores."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(cores())


class Contender(NamedTuple):
    """One way to do a piece of work."""

    run: Callable[[], object]
    units: int  # images or steps that `run` does
    unit: str = "images"
    prepare: Callable[[], None] = our_settings  # before each turn; not timed
    warm_up: Callable[[], object] | None = None  # a shorter `run` that does all there is once
    rivals: tuple[str, ...] = ()  # the cases whose speed this one's is compared with


Maker = Callable[[], Contender]


class Entry:
    """A case's contender, and its turns so far."""

    def __init__(self, case: str, make: Maker):
        self.case = case
        self.make = make
        self.first = 0.0  # seconds of the warm-up, compilation included
        self.seconds: list[float] = []
        self.peak = 0  # bytes on the GPU, with all that others hold there
        self.held = 0  # bytes of these that were there before
        self.failure: Row = {}

    def begin(self) -> None:
        """Make the contender, which may load a model, and let it warm up."""
        with self.noting_errors():
            self.contender = self.make()
            self.first = self.take(self.contender.warm_up or self.contender.run)

    def take_turn(self) -> None:
        if not self.failure:
            with self.noting_errors():
                self.seconds.append(self.take(self.contender.run))

    def take(self, work: Callable[[], object]) -> float:
        """Seconds of the work, until the GPU has done it."""
        self.contender.prepare()
        self.held = max(self.held, reset_peak())

        began = time.perf_counter()
        work()
        synchronise()
        spent = time.perf_counter() - began

        self.peak = max(self.peak, peak_memory())
        return spent

    @contextmanager
    def noting_errors(self) -> Iterator[None]:
        """An error ends this entry, and not the others."""
        try:
            yield
        except (Exception, SystemExit) as error:
            self.failure = failed(error)

    def speed(self) -> float | None:
        """Units a second, by the median turn."""
        if self.failure or not self.seconds:
            return None
        return self.contender.units / median(self.seconds)

    def row(self, speeds: dict[str, float | None]) -> Row:
        """The line of this case; `speeds` are those of all cases."""
        speed = self.speed()
        if speed is None:
            return {"case": self.case, **(self.failure or SKIPPED)}

        rivals = {rival: speeds.get(rival) for rival in self.contender.rivals}
        return {
            "case": self.case,
            "per_second": round(speed, 3),
            "unit": self.contender.unit,
            "units": self.contender.units,
            "seconds": [round(seconds, 4) for seconds in self.seconds],
            "first_seconds": round(self.first, 2),
            "peak_gib": gib(self.peak),
            "held_gib": gib(self.held),
            "times": {rival: round(speed / other, 2) for rival, other in rivals.items() if other},
        }


def race(
    makers: Mapping[str, Maker],
    rounds: int,
    budget: Budget,
    others: Mapping[str, float | None] | None = None,
) -> Iterator[Row]:
    """Time the contenders of all cases; a row for each, in their order.

    Whoever has not begun when the budget is spent is skipped, and no further round begins.
    others: the speeds of rivals that were timed before.
    """
    entries = [Entry(case, make) for case, make in makers.items()]
    for entry in entries:
        if budget.is_spent():
            entry.failure = SKIPPED
        else:
            entry.begin()

    for number in range(rounds):
        if number and budget.is_spent():
            break
        for entry in entries:
            entry.take_turn()

    speeds = {**(others or {}), **{entry.case: entry.speed() for entry in entries}}
    for entry in entries:
        yield entry.row(speeds)


def check_runs(row: Row) -> None:
    """Raises RuntimeError for a case with an error, where others would fail after minutes, too."""
    if "error" in row:
        raise RuntimeError(f"{row['case']}: does not run")


def failed(error: BaseException) -> Row:
    """An error as a case's result, in a line; where it came from is told on stderr."""
    traceback.print_exception(error)
    return {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]}


def synchronise() -> None:
    """Wait for the GPU: when a call returns, its work is asked for, not done."""
    if device().type == "cuda":
        torch.cuda.synchronize(device())


def reset_peak() -> int:
    """Begin to watch the GPU's memory; bytes that are allocated now."""
    synchronise()
    if device().type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device())
    return torch.cuda.memory_allocated(device())


def peak_memory() -> int:
    return torch.cuda.max_memory_allocated(device()) if device().type == "cuda" else 0


def gib(size: int) -> float | None:
    """None where there is no GPU, whose memory alone is watched."""
    return round(size / 2**30, 2) if device().type == "cuda" else None

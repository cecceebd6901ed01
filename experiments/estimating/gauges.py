"""How long a piece of work takes on this machine, and how much memory: one image first, then as many as time allows."""

import ctypes
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import NamedTuple

import psutil
import torch

from stages.shared.errors import BadInput
from stages.shared.running.runtime import device

REPETITIONS = 5  # at the largest batch, of which the median counts
POLL = 0.005  # seconds between two looks at a process's memory
LIBC = ctypes.CDLL(None)
KEPT, MAPPED = -1, -3  # glibc's numbers for M_TRIM_THRESHOLD and M_MMAP_THRESHOLD
Run = Callable[[int], object]  # the work on a batch of so many images


class Rate(NamedTuple):
    """What a piece of work costs."""

    seconds: float  # an image
    memory: int  # bytes at `batch`: where fewer were measured, in proportion
    measured: (
        int  # images at once that could be measured, in the time and the memory that there are
    )
    batch: int  # images at once that the parameters ask for
    full: bool = False  # whether it was memory that allowed no more


class Gauge:
    """Peak memory of what runs between `start` and `stop`, in bytes.

    On a GPU what torch has allocated of it; else by how much the process has grown since the gauge was made.
    """

    def __init__(self) -> None:
        release()
        self.on_gpu = device().type == "cuda"
        self._process = psutil.Process()
        self._floor = 0 if self.on_gpu else self._process.memory_info().rss
        self._peak, self._done = 0, threading.Event()

    def now(self) -> int:
        return (
            torch.cuda.memory_allocated(device())
            if self.on_gpu
            else self._process.memory_info().rss - self._floor
        )

    def held(self) -> int:
        """What is kept between two calls: weights and, of a training, gradients and the optimiser's state."""
        trim()
        return self.now()

    def start(self) -> None:
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(device())
            return
        self._peak, self._done = self.now(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, args=(self._done,), daemon=True)
        self._watcher.start()

    def stop(self) -> int:
        if self.on_gpu:
            return torch.cuda.max_memory_allocated(device())
        self._done.set()
        self._watcher.join()
        return max(self._peak, self.now(), 0)

    def _watch(self, done: threading.Event) -> None:
        while not done.wait(POLL):
            self._peak = max(self._peak, self.now())

    def room(self) -> int:
        """Bytes that a process may grow by; of a GPU no one asks: it refuses, and nothing else suffers."""
        return 2**62 if self.on_gpu else psutil.virtual_memory().available


def release() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()
    trim()


def trim() -> None:
    """Give back what the C library keeps; glibc's does."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)


@contextmanager
def given_back() -> Iterator[None]:
    """Inside, glibc gives freed blocks back at once; afterwards it keeps those of up to 32 MiB, as it soon does itself.

    A process that keeps them is larger than what it holds, or does not grow though it holds more.
    """
    set_limits(2**17, 2**17)
    trim()
    try:
        yield
    finally:
        set_limits(2**25, 2**26)


def set_limits(mapped: int, kept: int) -> None:
    """From how many bytes on a block is the system's own, and how many freed ones are kept."""
    if hasattr(LIBC, "mallopt"):
        LIBC.mallopt(MAPPED, mapped)
        LIBC.mallopt(KEPT, kept)


def seconds_of_others() -> float:
    """What the cores have worked, since the machine began, for others than this process and its ended children."""
    total, own = psutil.cpu_times(), os.times()
    worked = sum(getattr(total, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))
    return worked - own.user - own.system - own.children_user - own.children_system


def synchronise() -> None:
    """Wait for the device: its work is asked for, not done, when a call returns."""
    if device().type == "cuda":
        torch.cuda.synchronize(device())
    elif device().type != "cpu":
        torch.accelerator.synchronize()


def once(run: Run, size: int, gauge: Gauge) -> tuple[float, int]:
    """Seconds and peak memory of one call."""
    synchronise()
    gauge.start()
    try:
        began = time.perf_counter()
        run(size)
        synchronise()
        seconds = time.perf_counter() - began
    finally:
        peak = gauge.stop()
    return seconds, peak


def repeat(run: Run, size: int, gauge: Gauge, most: int, ends: float) -> tuple[list[float], int]:
    """Seconds of up to `most` calls, as many as begin and end before `ends`, but one at least; and peak memory."""
    calls = [once(run, size, gauge)]
    while len(calls) < most and time.perf_counter() + calls[-1][0] < ends:
        calls.append(once(run, size, gauge))
    return [seconds for seconds, _ in calls], max(peak for _, peak in calls)


def measure(name: str, run: Run, batch: int, seconds: float, gauge: Gauge, least: int = 1) -> Rate:
    """What `run` costs an image at `batch`, from a median; raises BadInput where a GPU cannot hold `least` images.

    A GPU is tried with `batch` and, where that does not fit, with half of it, and so on. Other machines begin with
    `least` images and double them as far as `seconds` and the memory go.
    """
    least = min(least, batch)
    if gauge.on_gpu:
        return descend(name, run, batch, seconds, gauge, least)
    return climb(run, batch, seconds, gauge, least)


def descend(name: str, run: Run, batch: int, seconds: float, gauge: Gauge, least: int) -> Rate:
    """The first call of all loads kernels, the first of a size chooses them: neither counts."""
    size = batch
    while True:
        try:
            once(run, least, gauge)
            held = gauge.held()
            once(run, size, gauge)
            spent, peak = repeat(run, size, gauge, REPETITIONS, time.perf_counter() + seconds)
            return Rate(
                median(spent) / size, extend(peak, held, size, batch), size, batch, size < batch
            )
        except torch.OutOfMemoryError:
            pass  # and out of this block: the error holds what was allocated
        release()
        if size == least:
            raise BadInput(
                f"{name}: {least} at once do not fit into the memory of {device()}; take fewer pixels"
            )
        size = max(size // 2, least)


def climb(run: Run, batch: int, seconds: float, gauge: Gauge, least: int) -> Rate:
    """A size's first call measures memory; its time counts only where there is none for a second."""
    ends, size, following = time.perf_counter() + seconds, 0, least
    while following > size:
        size = following
        with given_back():
            (spent,), peak = repeat(run, size, gauge, 1, ends)
            held = gauge.held()
        grown, left = peak - held, ends - time.perf_counter()
        if 2 * spent < left and 2 * grown < gauge.room():
            following = min(2 * size, batch)
    spared = time.perf_counter() + spent < ends
    times = repeat(run, size, gauge, REPETITIONS, ends)[0] if spared else [spent]
    memory = extend(peak, held, size, batch)
    return Rate(median(times) / size, memory, size, batch, memory - held > gauge.room())


def extend(peak: int, held: int, size: int, batch: int) -> int:
    """Memory at `batch`, where it is `peak` at `size` and `held` between two calls: in proportion."""
    return round(held + max(peak - held, 0) * batch / size)

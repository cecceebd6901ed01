"""How long a batch takes on this machine, and on a GPU how much memory."""

import gc
import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

from stages.shared.errors import BadInput
from stages.shared.running.runtime import device

CALLS = 5  # of which the median counts
SECONDS = 10.0  # after so many no further call begins
QUICK = 5.0  # seconds that a CPU may take for a whole batch, to be given one
Work = Callable[[int], object]  # does a part of a stage's work for so many images at once


class Rate(NamedTuple):
    """What a part of the work costs."""

    part: str  # its name, after the parameter that says how many images go at once
    seconds: float  # an image
    batch: int  # images at once that the parameters ask for
    measured: int  # images that went at once
    memory: int | None  # bytes at the peak, weights included; None without a GPU


def time_batch(part: str, batch: int, work: Work, least: int = 1) -> Rate:
    """What the work costs an image.

    A GPU is given the batch or, where that does not fit, half of it, and so on; raises BadInput
    where not even `least` images fit. A CPU is given `least` images and, where it is quick enough,
    the batch.
    """
    if device().type != "cuda":
        return time_on_cpu(part, batch, work, least)

    size = batch
    while True:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device())
        try:
            seconds = time_calls(work, size) / size
            return Rate(part, seconds, batch, size, torch.cuda.max_memory_allocated(device()))
        except torch.OutOfMemoryError:
            pass  # the error holds what was allocated, until this block is left

        if size == least:
            raise BadInput(
                f"{part}: {least} at once do not fit into the memory of {device()}; "
                "take fewer pixels"
            )
        size = max(size // 2, least)


def time_on_cpu(part: str, batch: int, work: Work, least: int) -> Rate:
    """A few images' time, an order of magnitude, or where the CPU is quick enough the batch's."""
    seconds = time_calls(work, least) / least
    if seconds * batch > QUICK:
        return Rate(part, seconds, batch, least, None)

    return Rate(part, time_calls(work, batch) / batch, batch, batch, None)


def time_calls(work: Work, size: int) -> float:
    """The median seconds of a few calls, after a first one, which loads and chooses kernels."""
    work(size)
    synchronise()

    spent: list[float] = []
    while len(spent) < CALLS and sum(spent) < SECONDS:
        began = time.perf_counter()
        work(size)
        synchronise()
        spent.append(time.perf_counter() - began)

    return median(spent)


def synchronise() -> None:
    """Wait for the GPU: when a call returns, its work is asked for, not done."""
    if device().type == "cuda":
        torch.cuda.synchronize(device())

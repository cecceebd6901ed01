"""How a batch is timed: on a CPU, and on a GPU that is made up."""

import itertools

import pytest
import torch

from experiments.estimating import timing
from experiments.estimating.timing import time_batch
from stages.shared.errors import BadInput


class Work:
    """A part of the work that does not fit beyond `most` images; records the sizes asked for."""

    def __init__(self, most: int):
        self.most = most
        self.sizes: list[int] = []

    def __call__(self, size: int) -> None:
        self.sizes.append(size)
        if size > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that has allocated seven bytes."""
    monkeypatch.setattr(timing, "device", lambda: torch.device("cuda"))
    for name in ("empty_cache", "synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda *_: 7)


def test_a_slow_cpu_is_given_as_few_images_as_the_part_allows(monkeypatch):
    monkeypatch.setattr(timing, "QUICK", 0.0)
    work = Work(99)
    found = time_batch("a part", 32, work, least=2)

    assert (found.batch, found.measured, found.memory) == (32, 2, None)
    assert set(work.sizes) == {2}


def test_a_quick_cpu_is_given_the_batch():
    found = time_batch("a part", 32, Work(99), least=2)
    assert (found.batch, found.measured, found.memory) == (32, 32, None)


def test_the_median_of_a_few_calls_counts_for_an_image(monkeypatch):
    """Calls of four images take 2, 9, 2, 2 and 2 s, after one that is not timed."""
    times = iter([0, 2, 2, 11, 11, 13, 13, 15, 15, 17])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(timing, "SECONDS", 99)
    monkeypatch.setattr(timing, "QUICK", 0.0)

    assert time_batch("a part", 32, Work(99), least=4).seconds == 0.5


def test_no_call_begins_when_the_time_is_up(monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 1e-12)
    monkeypatch.setattr(timing, "QUICK", 0.0)
    work = Work(99)
    time_batch("a part", 32, work)

    assert work.sizes == [1, 1]


@pytest.mark.usefixtures("gpu")
def test_a_gpu_halves_a_batch_that_does_not_fit(monkeypatch):
    """Each call of the eight images that fit takes four seconds."""
    monkeypatch.setattr(timing.time, "perf_counter", itertools.count(step=4).__next__)
    work = Work(9)
    found = time_batch("a part", 32, work)

    assert (found.seconds, found.measured, found.memory) == (0.5, 8, 7)
    assert work.sizes[:3] == [32, 16, 8]


@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_holds_not_even_the_least_is_refused():
    work = Work(1)
    with pytest.raises(BadInput, match="a part: 2 at once do not fit into the memory of cuda"):
        time_batch("a part", 5, work, least=2)
    assert work.sizes == [5, 2]

"""How parts are measured: batches that are doubled or halved, memory, workers, the picture that stands for photos."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from experiments.estimating import gauges
from experiments.estimating.gauges import extend, measure
from experiments.estimating.pictures import CHUNK, draw_photo, make_png, steady
from stages.shared.errors import BadInput
from tests.support.made_up_rates import GIB


class FakeGauge(gauges.Gauge):
    """Of a machine with room for so many bytes, of which nothing is taken."""

    def __init__(self, on_gpu: bool, free: int = 10**12):
        self.on_gpu, self.free = on_gpu, free

    def held(self) -> int:
        return 0

    def room(self) -> int:
        return self.free


@pytest.fixture
def clocked(monkeypatch):
    """A call takes 100 s an image and 10 bytes; the sizes that were called, in turn; more than `most` do not fit."""
    sizes: list[int] = []

    def once(run, size, gauge):
        sizes.append(size)
        run(size)
        return 100.0 * size, 10 * size

    monkeypatch.setattr(gauges, "once", once)
    return sizes


def holds(most: int):
    def run(size: int) -> None:
        if size > most:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return run


def test_a_cpu_doubles_the_batch_as_long_as_there_is_time(clocked):
    """In 1,000 s: 1, 2 and 4; a batch of 8 takes 800 s, and 16 would take 1,600."""
    found = measure("part", holds(99), 32, 1000.0, FakeGauge(on_gpu=False))
    assert (found.measured, found.batch, found.seconds, found.memory, found.full) == (
        8,
        32,
        100.0,
        320,
        False,
    )


def test_a_cpu_makes_one_call_however_long_it_takes(clocked):
    found = measure("part", holds(99), 32, 1.0, FakeGauge(on_gpu=False))
    assert (found.measured, clocked) == (1, [1])


def test_a_cpu_does_not_try_what_its_memory_does_not_hold(clocked):
    """There are 25 bytes: two images take 20, four would take 40 and 32 take 320."""
    found = measure("part", holds(99), 32, 1e9, FakeGauge(on_gpu=False, free=25))
    assert (found.measured, found.memory, found.full) == (2, 320, True)


def test_a_gpu_is_tried_with_the_whole_batch_first(clocked):
    found = measure("part", holds(99), 32, 1.0, FakeGauge(on_gpu=True))
    assert (found.measured, found.memory, found.full) == (32, 320, False)


def test_a_gpu_halves_a_batch_that_does_not_fit(clocked):
    found = measure("part", holds(9), 32, 1.0, FakeGauge(on_gpu=True))
    assert (found.measured, found.batch, found.memory, found.full) == (8, 32, 320, True)


def test_a_gpu_that_holds_not_even_the_least_is_refused(clocked):
    with pytest.raises(
        BadInput, match=r"synth\.batch: decode: 1 at once do not fit into the memory of"
    ):
        measure("synth.batch: decode", holds(0), 32, 1.0, FakeGauge(on_gpu=True))


def test_what_is_held_between_two_calls_does_not_grow_with_the_batch():
    """60 bytes of weights, and 20 for each of two images."""
    assert extend(peak=100, held=60, size=2, batch=8) == 60 + 8 * 20


def test_a_process_that_grows_is_measured():
    gauge, kept = gauges.Gauge(), []
    _, peak = gauges.once(lambda size: kept.append(np.ones(size * GIB // 32)), 1, gauge)
    assert 0.2 * GIB < peak < 0.4 * GIB


def test_what_the_cores_do_for_this_process_and_its_children_is_not_others_work(monkeypatch):
    """Of 10 + 1 + 2 seconds' work 3 + 1 are this process's and 2 + 0.5 its children's."""
    worked = SimpleNamespace(user=10.0, nice=1.0, system=2.0, idle=99.0, iowait=7.0)
    monkeypatch.setattr(gauges.psutil, "cpu_times", lambda: worked)
    monkeypatch.setattr(gauges.os, "times", lambda: os.times_result((3.0, 1.0, 2.0, 0.5, 1000.0)))
    assert gauges.seconds_of_others() == 6.5


def test_workers_are_timed_once_all_of_them_are_at_work():
    """Two workers: their first chunks are there at 3 s, and then one a second and a half."""
    seconds, start = steady([2.9, 3.0, 4.5, 6.0], 2)
    assert seconds == pytest.approx(1.5 / CHUNK)
    assert start == pytest.approx(0.0)
    assert steady([1.0, 2.0], 0) == (1.0 / CHUNK, 0.0)


def test_a_drawn_photo_needs_as_many_bytes_as_a_photograph():
    """1.7 bytes a pixel as PNG, as a real one of 512 pixels was measured to need."""
    assert len(make_png(draw_photo(500, 400), 512)) / 512**2 == pytest.approx(1.7, abs=0.1)

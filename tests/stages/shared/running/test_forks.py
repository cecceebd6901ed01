"""Work that is spread over forked processes is the same work, and its errors are told."""

import io
import os
import signal
import time
from email.message import Message
from urllib.error import HTTPError

import psutil
import pytest
import torch
from torch.utils.data import DataLoader

from stages.shared.errors import BadInput
from stages.shared.running import forks
from stages.shared.running.forks import Partner, in_two, spread


def squares(numbers):
    for number in numbers:
        yield number, number**2, os.getpid()


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setattr(forks, "cores", lambda: 2)


@pytest.fixture
def one_core(monkeypatch):
    monkeypatch.setattr(forks, "cores", lambda: 1)


def test_two_processes_do_all_of_the_work_and_each_its_own_in_order(two_cores):
    found = list(spread(range(7), squares))
    by_process = {process: [] for _, _, process in found}
    for number, square, process in found:
        assert square == number**2
        by_process[process].append(number)

    assert sorted(by_process.values()) == [[0, 2, 4, 6], [1, 3, 5]]
    assert os.getpid() not in by_process


def test_one_core_does_it_in_this_process(one_core):
    assert list(spread(range(3), squares)) == [(n, n**2, os.getpid()) for n in range(3)]


def test_a_bad_input_ends_the_work_with_its_line(two_cores):
    def refuse(numbers):
        yield numbers[0]
        raise BadInput("data/x: is broken; mend it")

    with pytest.raises(BadInput, match="data/x: is broken; mend it"):
        list(spread(range(4), refuse))


def test_another_error_is_raised_with_its_trace(two_cores, capfd):
    def fail(numbers):
        yield numbers[0]
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        list(spread(range(4), fail))
    assert "in fail" in capfd.readouterr().err


def test_an_error_that_holds_a_connection_is_told_in_its_words(two_cores, capfd):
    """As that of a host that answers 403 does, which no pickle takes."""

    def fail(numbers):
        yield numbers[0]
        answer = io.BufferedReader(io.BytesIO(b"no"))
        raise HTTPError("url", 403, "Forbidden", Message(), answer)

    with pytest.raises(RuntimeError, match=r"^HTTPError: HTTP Error 403: Forbidden$"):
        list(spread(range(4), fail))
    assert "in fail" in capfd.readouterr().err


def test_a_killed_process_is_told(two_cores):
    def die(numbers):
        yield numbers[0]
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(BadInput, match=r"was ended \(exit -9\)"):
        list(spread(range(2), die))


def test_no_process_is_left_when_the_caller_stops_early(two_cores):
    def go_on(numbers):
        while True:
            yield os.getpid()
            time.sleep(0.01)

    values = spread(range(2), go_on)
    process = next(values)
    values.close()

    assert not psutil.pid_exists(process)


def descend(partner: Partner):
    """Twenty steps; returns the sum and who has computed it."""
    weights = torch.linspace(0, 1, 10**6)  # more than a pipe holds
    for _ in range(20):
        halves = [torch.sin(weights * (part + 1)) for part in partner.parts]
        total = sum(halves[1:], halves[0])
        weights = weights + 0.1 * (partner.add(total) if partner.add else total)
    return weights, partner.parts


def test_halves_in_two_processes_are_summed_to_the_bit_as_in_one(monkeypatch):
    monkeypatch.setattr(forks, "cores", lambda: 1)
    alone, parts = in_two(descend)
    monkeypatch.setattr(forks, "cores", lambda: 2)
    together, mine = in_two(descend)

    assert (parts, mine) == ((0, 1), (0,))
    assert torch.equal(alone, together)


def test_a_partner_that_is_gone_is_told(two_cores):
    def leave(partner):
        if partner.parts == (1,):
            os._exit(1)
        return partner.add(torch.zeros(2))

    with pytest.raises(BadInput, match="half of each batch was ended"):
        in_two(leave)


def test_a_process_that_has_computed_with_threads_can_fork(two_cores):
    """OpenMP's threads are not forked: a child that waited for them would wait for ever."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    picture = torch.ones(8, 3, 64, 64)
    kernel = torch.ones(4, 3, 3, 3)
    torch.conv2d(picture, kernel)

    def convolve(numbers):
        for number in numbers:
            yield torch.get_num_threads(), float(torch.conv2d(number * picture, kernel).sum())

    found = list(spread([1, 2], convolve))
    torch.set_num_threads(before)

    assert sorted(found) == [(1, 27.0 * 8 * 4 * 62 * 62), (1, 54.0 * 8 * 4 * 62 * 62)]


def test_a_forked_process_may_load_with_workers_of_its_own(two_cores):
    def load(numbers):
        for number in numbers:
            loader = DataLoader(range(4), batch_size=2, num_workers=1)
            yield number, [batch.tolist() for batch in loader]

    assert sorted(spread([1, 2], load)) == [(1, [[0, 1], [2, 3]]), (2, [[0, 1], [2, 3]])]

"""Several launched processes without a launcher: forks of the test's own, in a second."""

import io
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState

from stages.shared.running import forks
from stages.shared.running.processes import processes

Value = TypeVar("Value")


def launched(count: int, work: Callable[[], Value]) -> list[Value]:
    """What `work` returns in each of `count` CPU processes, by rank; raises what one of them does.

    A value is anything that torch.load takes without running code.
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1"}

    def join(ranks: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        rank = str(ranks[0])
        os.environ.update(address, RANK=rank, LOCAL_RANK=rank)
        os.environ.update(WORLD_SIZE=str(count), LOCAL_WORLD_SIZE=str(count), DIFFMIX_DEVICE="cpu")
        PartialState._reset_state()
        processes.cache_clear()
        processes()

        buffer = io.BytesIO()
        torch.save(work(), buffer)
        processes().wait_for_everyone()
        yield ranks[0], buffer.getvalue()

    found = dict(forks._gather([[rank] for rank in range(count)], join))
    return [torch.load(io.BytesIO(found[rank]), weights_only=True) for rank in range(count)]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]

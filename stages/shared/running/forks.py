"""Independent pieces of a stage's work on all cores of a CPU.

Each piece is computed by one thread, in whichever process: so the result depends neither on the
number of cores nor on which process has computed what. A GPU, and a process that a launcher has
started, compute their pieces by themselves.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from stages.shared.errors import BadInput
from stages.shared.running.processes import deal, processes
from stages.shared.running.runtime import cores, device, fix_threads

Item = TypeVar("Item")
Value = TypeVar("Value")


class _Failure(NamedTuple):
    """What a forked process died of."""

    error: BaseException
    trace: str


class _End:
    """The last message of a forked process that has done its work."""


class Partner:
    """The other one of two processes that share each batch; or none, and this one does it all."""

    def __init__(self, parts: Sequence[int], connection: Connection | None = None):
        self.parts = parts  # of 0 and 1, the halves that are this process's
        self.connection = connection

    @property
    def add(self) -> Callable[[Tensor], Tensor] | None:
        """What sums a tensor over both processes, where there are two."""
        return None if self.connection is None else self._add

    def _add(self, mine: Tensor) -> Tensor:
        assert self.connection is not None

        try:
            # in turn: two that both wait to be read would wait for ever
            if self.parts[0] == 0:
                self.connection.send(mine.numpy())
                return mine + torch.from_numpy(self.connection.recv())

            other = torch.from_numpy(self.connection.recv())
            self.connection.send(mine.numpy())
            return other + mine
        except (EOFError, ConnectionError):
            raise BadInput(
                "a process that computed half of each batch was ended; memory may be short: "
                "run again, which goes on from the last checkpoint"
            ) from None


def in_two(loop: Callable[[Partner], Value]) -> Value:
    """Run a training loop in two processes, on a CPU with more than one core, or in this one.

    Each batch has two halves, wherever they are computed: so the result does not depend on the
    number of cores. Returns what the loop returns here.
    """
    if not forks() or cores() < 2:
        return loop(Partner((0, 1)))

    here, there = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    child = context.Process(target=_follow, args=(loop, there, here))
    child.start()
    there.close()

    try:
        return loop(Partner((0,), here))
    finally:
        child.kill()
        child.join()


def _follow(loop: Callable[[Partner], Any], there: Connection, here: Connection) -> None:
    here.close()
    fix_threads()

    try:
        loop(Partner((1,), there))
    except (KeyboardInterrupt, BadInput):
        pass  # the other process has ended
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def forks() -> bool:
    """Whether pieces of work are given to forked processes."""
    return device().type == "cpu" and processes().num_processes == 1 and sys.platform == "linux"


def spread(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Iterator[Value]],
    costs: Sequence[float] | None = None,
) -> Iterator[Value]:
    """All that `work` yields for all items, as it comes; `work` is given a part of them.

    The parts are of about equal cost; without `costs` all items cost the same. Values travel
    between processes, so they must be what pickle takes. An error in a forked process is raised
    here; the others are ended.
    """
    count = min(cores(), len(items))
    if count < 2 or not forks():
        return work(items)
    return _gather(deal(items, costs or [1] * len(items), count), work)


def _gather(
    shares: Sequence[Sequence[Item]], work: Callable[[Sequence[Item]], Iterator[Value]]
) -> Iterator[Value]:
    context = multiprocessing.get_context("fork")
    children: dict[Connection, Any] = {}

    for share in shares:
        receiver, sender = context.Pipe(duplex=False)
        # a child that held the parent's ends would not notice that the parent is gone
        ends = [*children, receiver]
        child = context.Process(target=_run, args=(share, work, sender, ends))
        child.start()
        sender.close()
        children[receiver] = child

    try:
        open_ends = list(children)
        while open_ends:
            for receiver in wait(open_ends):  # type: ignore[assignment]
                message = _receive(receiver, children[receiver])  # type: ignore[arg-type,index]
                if isinstance(message, _End):
                    open_ends.remove(receiver)  # type: ignore[arg-type]
                else:
                    yield message
    finally:
        for child in children.values():
            child.kill()
            child.join()


def _run(
    share: Sequence[Item],
    work: Callable[[Sequence[Item]], Iterator[Value]],
    sender: Connection,
    ends: list[Connection],
) -> None:
    """What a forked process does; it leaves without the clean-up that belongs to its parent."""
    for end in ends:
        end.close()
    fix_threads()  # OpenMP's threads of before the fork are not there, and would be waited for

    try:
        for value in work(share):
            sender.send(value)
        sender.send(_End())
    except BaseException as error:
        with suppress(ConnectionError):  # nobody listens any more
            _send_failure(error, sender)
    finally:
        os._exit(0)


def _send_failure(error: BaseException, sender: Connection) -> None:
    """Send the error, or its words alone where it cannot travel: one of HTTP holds a connection."""
    trace = traceback.format_exc()
    try:
        sender.send(_Failure(error, trace))
    except ConnectionError:
        raise
    except Exception:
        sender.send(_Failure(RuntimeError(f"{type(error).__name__}: {error}"), trace))


def _receive(receiver: Connection, child: multiprocessing.Process):
    """The next message; raises what the child has died of."""
    try:
        message = receiver.recv()
    except (EOFError, ConnectionError):
        child.join()
        raise BadInput(
            f"a process that computed a part was ended (exit {child.exitcode}); "
            "memory may be short: run again, which goes on from what is done"
        ) from None

    if isinstance(message, _Failure):
        if isinstance(message.error, Exception):
            sys.stderr.write(message.trace)
        raise message.error

    return message

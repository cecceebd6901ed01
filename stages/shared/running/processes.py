"""Several processes for one stage, by Hugging Face Accelerate (torchrun underneath).

    DIFFMIX_LAUNCHER="accelerate launch --multi_gpu --num_processes 4" dvc repro

The stage starts itself anew under the launcher, so that dvc.yaml's commands, which DVC hashes, stay
what they are. Without a launcher, which is the usual case, everything here serves the one process.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object, reduce
from torch import Tensor

from stages.shared.errors import BadInput
from stages.shared.running.runtime import device, fix_threads, keep_memory
from stages.shared.running.work import folder_of, work_folder

LAUNCHER = "DIFFMIX_LAUNCHER"
PATIENCE = timedelta(days=7)  # a process may have much more to do than those that wait for it
Item = TypeVar("Item")


def launch() -> None:
    """Hand this process over to DIFFMIX_LAUNCHER, once; or join the processes that it has started.

    Raises BadInput for a launcher that is no command.
    """
    environment = dict(os.environ)
    # the launched processes do not inherit the variable: they would launch again
    command = shlex.split(environment.pop(LAUNCHER, ""))

    if command:
        if shutil.which(command[0]) is None:
            raise BadInput(
                f"{LAUNCHER}: there is no command {command[0]!r}; install it, or unset {LAUNCHER}"
            )

        # threads that wait must not keep others off the cores
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
        sys.stdout.flush()
        os.execvpe(command[0], [*command, "-m", module, *sys.argv[1:]], environment)

    processes()


@cache
def processes() -> PartialState:
    """This process among those that were launched.

    The first call joins them, and takes the process's own GPU. Raises BadInput where DIFFMIX_DEVICE
    would give all of them the same one.
    """
    state = PartialState(cpu=device().type == "cpu", timeout=PATIENCE)
    if state.num_processes > 1 and device().type == "cuda" and device().index is not None:
        raise BadInput(
            f"DIFFMIX_DEVICE: all processes would share {device()}; "
            "unset it (CUDA_VISIBLE_DEVICES chooses)"
        )

    fix_threads()  # launchers and Accelerate give each process threads of their choice
    keep_memory()
    return state


def share(items: Sequence[Item]) -> list[Item]:
    """This process's part of the items; the parts of all processes are all of the items."""
    state = processes()
    return list(items[state.process_index :: state.num_processes])


def deal(items: Sequence[Item], costs: Sequence[float], count: int) -> list[list[Item]]:
    """The items in `count` parts of about equal cost, each in the items' order.

    An item goes to whoever has least to do: parts differ by no more than one item's cost.
    """
    parts: list[list[Item]] = [[] for _ in range(count)]
    loads = [0.0] * count

    for item, cost in zip(items, costs, strict=True):
        least = loads.index(min(loads))
        parts[least].append(item)
        loads[least] += cost

    return parts


def broadcast(value: list[Any]) -> Any:
    """The one item of the first process's list, for all processes."""
    return broadcast_object_list(value)[0]


def gather(mine: dict[int, Item]) -> dict[int, Item]:
    """All processes' entries, in the order of their keys."""
    found = dict(gather_object(list(mine.items())))
    return {key: found[key] for key in sorted(found)}


def check_agreement(done: int, checkpoint: Path) -> None:
    """Raises BadInput where the processes would not go on from the same step, and wait for ever.

    done: how many steps this process has found in `checkpoint`.
    """
    if processes().num_processes > 1 and len(set(gather_object([done]))) > 1:
        raise BadInput(
            f"{checkpoint}: not all processes see the same file; "
            "run on a file system that all nodes share"
        )


def sum_gradients(
    parameters: Sequence[torch.nn.Parameter],
    loss: Tensor,
    add: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Replace each gradient by its sum over the processes; returns the sum of their losses.

    All of them are sent as one message, a vector. `add` sums it over the processes: by default
    over those that were launched.
    """
    if add is None and processes().num_processes == 1:
        return loss

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    parts = [*gradients, loss]
    mine = torch.cat([part.flatten() for part in parts])
    total = reduce(mine, "sum") if add is None else add(mine)
    summed = total.split([part.numel() for part in parts])

    for gradient, whole in zip(gradients, summed[:-1], strict=True):
        gradient.copy_(whole.view_as(gradient))

    # a view would keep the whole vector for as long as the caller keeps the loss
    return summed[-1].squeeze().clone()


@contextmanager
def common_folder(stage: str, key: str) -> Iterator[Path]:
    """`work_folder` for all processes.

    The first one holds the lock, and clears up when the others are done.
    """
    state = processes()
    first = state.is_main_process
    opened = work_folder(stage, key) if first else nullcontext(folder_of(stage, key))

    with opened as folder:
        state.wait_for_everyone()
        yield folder
        state.wait_for_everyone()

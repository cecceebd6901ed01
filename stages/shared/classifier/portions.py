"""Each batch's rows among the processes that train one trial together.

Where there are fewer trials than launched processes, all processes train each trial: a process
computes a portion of each batch's rows. What is small, labels and outputs, all of them have of all
rows: so losses and accuracies are those of the whole batch, computed as one process computes them.
"""

from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed
from accelerate.utils import gather_object
from torch import Tensor

from stages.shared.errors import BadInput
from stages.shared.running.processes import processes


class Portion(NamedTuple):
    """One of `total` nearly equal portions, by number (from 0)."""

    number: int
    total: int

    def rows(self, size: int) -> slice:
        """Its rows of a batch of `size`."""
        return slice(size * self.number // self.total, size * (self.number + 1) // self.total)


WHOLE = Portion(0, 1)


def own_portion(trials: int) -> Portion:
    """What this process computes of each batch: all of it, where every process has a trial."""
    state = processes()
    if state.num_processes <= trials:
        return WHOLE

    return Portion(state.process_index, state.num_processes)


def check_portion(portion: Portion, size: int) -> None:
    """Raises BadInput where a process would have no row of a batch of `size`, the smallest."""
    if size < portion.total:
        raise BadInput(
            f"params.yaml: train.batch: a batch of {size} images cannot be shared by "
            f"{portion.total} processes; launch fewer, or raise it"
        )


def check_agreement(portion: Portion, epochs: int, checkpoint: Path) -> None:
    """Raises BadInput where the processes would not go on from the same epoch, and wait for ever.

    epochs: how many this process has found in `checkpoint`.
    """
    if portion.total > 1 and len(set(gather_object([epochs]))) > 1:
        raise BadInput(
            f"{checkpoint}: not all processes see the same file; "
            "run on a file system that all nodes share"
        )


def join_rows(own: Tensor, portion: Portion, size: int) -> Tensor:
    """The rows of all processes, (size, ...), out of each one's own.

    Gradients flow to this process's own rows alone.
    """
    if portion.total == 1:
        return own

    rows = portion.rows(size)
    joined = own.new_zeros(size, *own.shape[1:])
    joined[rows] = own.detach()
    torch.distributed.all_reduce(joined)  # each row is a sum of itself and zeros

    return torch.cat([joined[: rows.start], own, joined[rows.stop :]])

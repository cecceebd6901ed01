"""Each batch's rows among the processes that train one trial together.

Where there are fewer trials than launched processes, all processes train each trial: a process
computes a portion of each batch's rows. What is small, labels and outputs, all of them have of all
rows: so losses and accuracies are those of the whole batch, computed as one process computes them.
"""

from typing import NamedTuple

import torch
import torch.distributed
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

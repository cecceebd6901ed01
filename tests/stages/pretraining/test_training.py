"""The training loop of the embedded base: what its moving average follows."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from stages.pretraining.training import AVERAGED, move_average


def averaged(updates: int, weight: float) -> float:
    """The average, begun at 0, after as many updates of a network whose weight is `weight`."""
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    average = AveragedModel(network, multi_avg_fn=move_average)
    average.update_parameters(network)  # the first one copies

    nn.init.constant_(network.weight, weight)
    for _ in range(updates):
        average.update_parameters(network)

    return float(average.module.weight)


def test_a_short_sitting_counts():
    """A plain average of decay 0.999 would be at 0.095 of the way."""
    torch.testing.assert_close(averaged(100, weight=1.0), 1.0, atol=1e-3, rtol=0)


def test_a_long_one_averages_over_a_thousand_steps():
    network = nn.Parameter(torch.ones(1))
    averages = [torch.zeros(1)]
    move_average(averages, [network.data], torch.tensor(10**6))

    torch.testing.assert_close(averages[0], torch.tensor([1 - AVERAGED]))

"""What makes a network that several processes train equal to one that a single process trains.

Batch normalisation is that of the whole batch, and gradients are summed over the processes.
"""

import weakref
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from stages.shared.running.runtime import device

GROUP_BYTES = 25 * 2**20  # of gradients in a message: a compromise between few and early ones


class SumOverProcesses(torch.autograd.Function):
    """The sum of all processes' tensors; a gradient is summed in the same way on its way back."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        total = gradient.clone()
        torch.distributed.all_reduce(total)
        return total


class JointBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the rows of all processes; torch's SyncBatchNorm needs a GPU."""

    def forward(self, images: Tensor) -> Tensor:
        if not self.training:
            return super().forward(images)

        pixels = images.float()
        rows, _channels, height, width = pixels.shape
        own = pixels.new_tensor([rows * height * width])

        sums = SumOverProcesses.apply(torch.cat([pixels.sum((0, 2, 3)), own]))
        count = sums[-1].detach()
        mean = sums[:-1] / count

        # from the deviations: the mean of the squares less the mean's square would lose digits
        deviations = pixels - mean.view(1, -1, 1, 1)
        variance = SumOverProcesses.apply((deviations**2).sum((0, 2, 3))) / count
        self._follow(mean.detach(), variance.detach(), count)

        scale = self.weight * (variance + self.eps).rsqrt()
        normalised = deviations * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return normalised.to(images.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Move the running statistics as torch does: towards the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None

        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1), self.momentum)


def join_norms(network: nn.Module) -> nn.Module:
    """The network with batch normalisation over all processes, and the same names of tensors."""
    if device().type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)

    for holder in list(network.modules()):
        for name, norm in list(holder.named_children()):
            if isinstance(norm, nn.BatchNorm2d):
                joint = JointBatchNorm(norm.num_features, norm.eps, norm.momentum)
                joint.load_state_dict(norm.state_dict())
                setattr(holder, name, joint)

    return network


class GradientSums:
    """Sums gradients over the processes, while the backward pass goes on to earlier layers.

    The last layers' gradients come first: they are sent, as one message, as soon as GROUP_BYTES of
    them are there. Messages are the same in each step, so that a resumed training adds up numbers
    in the order of an unbroken one; DistributedDataParallel forms them anew after its first step.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]):
        self.groups = group(parameters[::-1])
        self.missing = [len(members) for members in self.groups]
        self.sent: list[tuple[Tensor, torch.distributed.Work]] = []

        # parameters that held this object, which holds them, would not be freed at once
        weak = weakref.proxy(self)
        for number, members in enumerate(self.groups):
            for parameter in members:
                note = partial(GradientSums._note, weak, number)
                parameter.register_post_accumulate_grad_hook(note)

    def _note(self, number: int, _parameter: Tensor) -> None:
        """A gradient of a group is there; send what is complete, in all processes in one order."""
        self.missing[number] -= 1

        while len(self.sent) < len(self.groups) and not self.missing[len(self.sent)]:
            members = self.groups[len(self.sent)]
            message = torch.cat([gradient_of(parameter).flatten() for parameter in members])
            work = torch.distributed.all_reduce(message, async_op=True)
            self.sent.append((message, work))

    def finish(self) -> None:
        """After the backward pass: put the sums into the gradients' places."""
        assert len(self.sent) == len(self.groups), "a parameter has no gradient"

        for members, (message, work) in zip(self.groups, self.sent, strict=True):
            work.wait()
            sums = message.split([parameter.numel() for parameter in members])
            for parameter, total in zip(members, sums, strict=True):
                gradient_of(parameter).copy_(total.view(parameter.shape))

        self.missing = [len(members) for members in self.groups]
        self.sent = []


def group(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Neighbours in groups of at least GROUP_BYTES, but for the last group."""
    groups: list[list[nn.Parameter]] = [[]]
    held = 0

    for parameter in parameters:
        if held >= GROUP_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(parameter)
        held += parameter.nbytes

    return groups


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad

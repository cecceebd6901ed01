"""Two processes compute what torch computes in one on the joined batch."""

import pytest
import torch
from torch import nn

from stages.shared.classifier import together
from stages.shared.classifier.networks import build_network
from stages.shared.classifier.together import GradientSums, JointBatchNorm, group, join_norms
from stages.shared.running.processes import processes
from tests.support.launched import launched

ROWS = (slice(0, 3), slice(3, 5))  # of five images, by process


def test_joint_batch_norm_is_torchs_on_the_joined_batch():
    """Uneven parts, and a mean far from zero, where a difference of squares would lose digits."""
    random = torch.Generator().manual_seed(0)
    images = 100 + torch.randn(5, 3, 4, 4, generator=random)
    factors = torch.randn(5, 3, 4, 4, generator=random)
    weight = torch.randn(3, generator=random)
    bias = torch.randn(3, generator=random)

    def normalise(norm: nn.BatchNorm2d, rows: slice) -> list[torch.Tensor]:
        """Outputs, gradients of the images, weight and bias; running statistics; and evaluated."""
        norm.load_state_dict({"weight": weight, "bias": bias}, strict=False)
        own = images[rows].clone().requires_grad_()
        outputs = norm(own)
        (outputs * factors[rows]).sum().backward()

        gradients = [own.grad, norm.weight.grad, norm.bias.grad]
        statistics = [norm.running_mean, norm.running_var, norm.num_batches_tracked]
        return [outputs.detach(), *gradients, *statistics, norm.eval()(own).detach()]

    expected = normalise(nn.BatchNorm2d(3), slice(None))
    one, other = launched(2, lambda: normalise(JointBatchNorm(3), ROWS[processes().process_index]))

    close = {"rtol": 1e-4, "atol": 1e-4}
    for place in (0, 1, 7):  # by row
        torch.testing.assert_close(torch.cat([one[place], other[place]]), expected[place], **close)
    for place in (2, 3):  # a process's gradient is that of its own rows
        torch.testing.assert_close(one[place] + other[place], expected[place], **close)
    for place in (4, 5, 6):
        torch.testing.assert_close(one[place], expected[place], rtol=1e-5, atol=0)
        assert torch.equal(one[place], other[place])


@pytest.mark.parametrize(("name", "norm"), [("cpu", JointBatchNorm), ("cuda", nn.SyncBatchNorm)])
def test_a_joint_network_has_the_tensors_of_the_plain_one(monkeypatch, name, norm):
    monkeypatch.setattr(together, "device", lambda: torch.device(name))
    plain = build_network("small_resnet", 3, 8, False)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    joint = join_norms(plain)

    assert sum(isinstance(module, norm) for module in joint.modules()) == 7
    assert list(joint.state_dict()) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in joint.state_dict().items())


def test_groups_hold_neighbours_and_at_least_their_size(monkeypatch):
    """Of 4-byte numbers: 12 bytes are too few for a message, 20 are enough."""
    monkeypatch.setattr(together, "GROUP_BYTES", 16)
    parameters = [nn.Parameter(torch.zeros(size)) for size in (3, 2, 7, 1)]

    assert [[len(member) for member in members] for members in group(parameters)] == [
        [3, 2], [7], [1],
    ]  # fmt: skip


def test_gradients_are_summed_over_the_processes_in_each_step(monkeypatch):
    """Rank 0's loss is 1 * a + 2 * b, rank 1's 10 * a + 20 * b, and three times that in step 2."""
    monkeypatch.setattr(together, "GROUP_BYTES", 8)

    def descend() -> list[list[float]]:
        a, b = (nn.Parameter(torch.zeros(2)) for _ in range(2))
        sums = GradientSums([a, b])
        assert len(sums.groups) == 2
        scale = (1, 10)[processes().process_index]

        found = []
        for step in (1, 3):
            a.grad = b.grad = None
            (step * scale * (a.sum() + 2 * b.sum())).backward()
            sums.finish()
            found.append([*a.grad.tolist(), *b.grad.tolist()])
        return found

    assert launched(2, descend) == [[[11, 11, 22, 22], [33, 33, 66, 66]]] * 2

"""Rows of a batch among processes, and one trial trained by several: as one process trains it."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.shared.classifier.data import Data, Draws, Pictures, Pool, batches_of
from stages.shared.classifier.labels import Shares, hard_labels
from stages.shared.classifier.portions import WHOLE, Portion, check_portion, join_rows, own_portion
from stages.shared.classifier.training import answer, new_state, open_trial, train_trial
from stages.shared.errors import BadInput
from stages.shared.schemas.train import RealParams
from tests.stages.shared.classifier.test_training import recipe
from tests.support.launched import launched
from tests.support.noise import noise_table

# ten rows in batches of five, the second of them mixed; patches are positions 10 to 19
DRAWS = Draws(np.arange(20), np.full(20, -1), np.zeros(20, int), np.array([-1, 7]))


@pytest.mark.parametrize(
    ("total", "size", "expected"),
    [(1, 4, [(0, 4)]), (2, 5, [(0, 2), (2, 5)]), (3, 8, [(0, 2), (2, 5), (5, 8)])],
)
def test_portions_are_nearly_equal_and_make_the_whole(total, size, expected):
    found = [Portion(number, total).rows(size) for number in range(total)]
    assert [(rows.start, rows.stop) for rows in found] == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, [[0, 1], [9, 5, 6]]), (1, [[2, 3, 4], [6, 7, 8, 9]])],
)
def test_a_portion_of_a_mixed_batch_brings_the_image_before_it(number, expected):
    """Before the batch's first image comes its last."""
    assert batches_of(DRAWS, 5, patches=False, portion=Portion(number, 2)) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [(0, [[0, 1], [5, 6, 15, 16]]), (1, [[2, 3, 4], [7, 8, 9, 17, 18, 19]])],
)
def test_a_portion_of_a_mixed_batch_brings_its_own_patches(number, expected):
    assert batches_of(DRAWS, 5, patches=True, portion=Portion(number, 2)) == expected


@pytest.mark.parametrize(
    ("trials", "expected"),
    [(1, [Portion(0, 2), Portion(1, 2)]), (2, [WHOLE, WHOLE]), (3, [WHOLE, WHOLE])],
)
def test_processes_share_a_trial_where_not_each_has_one(trials, expected):
    assert launched(2, lambda: list(own_portion(trials))) == [list(own) for own in expected]


def test_rows_are_joined_and_gradients_go_to_ones_own():
    """The sum of squares of 1 to 5 has gradients 2 to 10; each process sees its own rows'."""

    def join() -> tuple[torch.Tensor, torch.Tensor]:
        portion = own_portion(1)
        own = torch.arange(1.0, 6)[portion.rows(5)].requires_grad_()
        joined = join_rows(own, portion, 5)
        joined.square().sum().backward()
        return joined.detach(), own.grad

    (one, its_own), (other, others_own) = launched(2, join)
    assert one.tolist() == other.tolist() == [1, 2, 3, 4, 5]
    assert its_own.tolist() == [2, 4]
    assert others_own.tolist() == [6, 8, 10]


def test_a_batch_smaller_than_the_processes_is_refused():
    check_portion(Portion(0, 4), 4)

    message = "train.batch: a batch of 3 images cannot be shared by 4 processes; launch fewer"
    with pytest.raises(BadInput, match=message):
        check_portion(Portion(0, 4), 3)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch) -> None:
    """Where the launched processes compute, on any machine."""
    monkeypatch.setenv("DIFFMIX_DEVICE", "cpu")


@pytest.fixture
def data(tmp_path) -> Data:
    """Nine images of class 0 and five of class 1; half of the real ones are replaced."""
    labels = pd.Series([0, 0, 1, 0, 1, 0, 0] * 2)
    real = noise_table(tmp_path / "real", pd.DataFrame({"label": labels}))
    synthetic = noise_table(tmp_path / "synthetic", pd.DataFrame({"label": [1, 1, 1]}))
    zeros = torch.zeros(3, dtype=torch.long)
    soft = Shares(zeros, zeros + 1, torch.full((3,), 0.75), classes=2)

    real_images = Pool(Pictures(real, 8), hard_labels(labels, 2))
    return Data(real_images, Pool(Pictures(synthetic, 8), soft), p=0.5)


def trained(params: RealParams, data: Data, checkpoint: Path, epochs: int = 10**6) -> dict:
    """Train to the last epoch, or `epochs` more of them.

    Returns the history, the tensors and the answers to the real images.
    """
    portion = own_portion(1)
    state = open_trial(params, 2, 5, checkpoint, portion)
    for _ in zip(range(epochs), train_trial(state, params, data, 5, checkpoint), strict=False):
        pass

    network = state["network"]
    return {
        "history": torch.tensor(state["history"]),
        "answers": answer(network, data.real.pictures, params.train, portion),
        **network.state_dict(),
    }


# A small rate: where a last bit moves a ReLU's input across zero the gradient jumps, in one process
# as in several, and a large rate would make much of it.
SMALL: dict[str, Any] = {"batch": 5, "learning_rate": 0.001}
VARIANTS = {
    "unmixed": recipe(**SMALL),
    "cutmix and a cosine": recipe("cutmix", schedule="cosine", **SMALL),
    "mixup and resized crops": recipe("mixup", augmentation="resized-crop", **SMALL),
    "cmo and drw": recipe("cmo", "drw", epochs=9, **SMALL),
}


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def check_close(one: dict, other: dict) -> None:
    """To rounding; training moves the weights by a hundredth, and the rest by more."""
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS)
def test_two_processes_train_as_one_does(data, tmp_path, params):
    """Batches of 5, 5 and 4 images, normalised over all of their rows."""
    alone = trained(params, data, tmp_path / "alone.pt")
    one, other = launched(2, lambda: trained(params, data, tmp_path / "together.pt"))

    check_close(one, alone)
    assert same(one, other)


def test_three_processes_resume_to_the_same_bits(data, tmp_path, monkeypatch):
    """Of three numbers, unlike of two, another order of adding has another sum."""
    monkeypatch.setenv("DIFFMIX_CHECKPOINT", "0")
    params = VARIANTS["cutmix and a cosine"]
    unbroken = launched(3, lambda: trained(params, data, tmp_path / "unbroken.pt"))

    launched(3, lambda: trained(params, data, tmp_path / "broken.pt", epochs=2))
    resumed = launched(3, lambda: trained(params, data, tmp_path / "broken.pt"))

    assert len(torch.load(tmp_path / "broken.pt")["history"]) == 3
    assert all(map(same, resumed, unbroken))
    check_close(resumed[0], trained(params, data, tmp_path / "alone.pt"))


def test_workers_change_nothing_for_two_processes(data, tmp_path, monkeypatch):
    params = VARIANTS["cmo and drw"]
    one, _ = launched(2, lambda: trained(params, data, tmp_path / "by-itself.pt"))

    monkeypatch.setenv("DIFFMIX_WORKERS", "1")
    assert same(launched(2, lambda: trained(params, data, tmp_path / "helped.pt"))[0], one)


@pytest.mark.slow
def test_two_processes_train_a_vit_as_one_does(data, tmp_path):
    """No batch normalisation, and 86 M parameters: several messages of gradients."""
    changes = SMALL | {"architecture": "vit_b_16", "resolution": 16, "padding": 4, "epochs": 1}
    params = recipe("mixup", **changes)
    alone = trained(params, data, tmp_path / "alone.pt")
    one, other = launched(2, lambda: trained(params, data, tmp_path / "together.pt"))

    check_close(one, alone)
    assert same(one, other)


def test_a_checkpoint_that_not_all_processes_see_is_refused(data, tmp_path):
    """They would wait for each other in different epochs, for ever."""
    launched(2, lambda: trained(VARIANTS["unmixed"], data, tmp_path / "trial-0.pt"))

    def open_other() -> None:
        portion = own_portion(1)
        path = tmp_path / ("trial-0.pt", "elsewhere.pt")[portion.number]
        open_trial(VARIANTS["unmixed"], 2, 5, path, portion)

    with pytest.raises(BadInput, match=r"\.pt: not all processes see the same file; run on a file"):
        launched(2, open_other)


def test_processes_share_what_is_answered(data):
    """Two batches of twelve and two images."""
    params = recipe(batch=3)
    network = new_state(params, 2, 0)["network"]
    expected = answer(network, data.real.pictures, params.train)

    def share_batches() -> tuple[torch.Tensor, list[int]]:
        passes = []
        network.register_forward_hook(lambda _module, given, _outputs: passes.append(len(given[0])))
        found = answer(network, data.real.pictures, params.train, own_portion(1))
        return found, passes

    (one, first), (other, second) = launched(2, share_batches)
    assert torch.equal(one, expected)
    assert torch.equal(other, expected)
    assert (first, second) == ([12], [2])

"""The training loop, its resuming and its answers, on a tiny real network."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.shared.classifier import training
from stages.shared.classifier.data import Data, Pictures, Pool
from stages.shared.classifier.labels import Shares, hard_labels
from stages.shared.classifier.schedules import join
from stages.shared.classifier.training import (
    answer,
    load_trial,
    new_state,
    open_course,
    open_trial,
    train_epoch,
    train_trial,
)
from stages.shared.errors import BadInput
from stages.shared.params import pick
from stages.shared.schemas.train import RealParams
from tests.support.noise import noise_table

OPTIONS: dict[str, Any] = {
    "architecture": "small_resnet", "pretrained": False, "resize": 8, "resolution": 8, "padding": 0,
    "epochs": 3, "batch": 4, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005,
    "schedule": "step", "augmentation": "crop", "warmup": 0.0, "label_smoothing": 0.0, "trials": 1,
}  # fmt: skip
LABELS = torch.tensor([0, 0, 0, 0, 0, 0, 1, 1])


def recipe(mix: str = "none", reweight: str = "none", **changes: Any) -> RealParams:
    arm = {"mix": mix, "mix_probability": 1.0, "reweight": reweight}

    return RealParams.model_validate({"seed": 0, "train": OPTIONS | changes, "arm": arm})


def train(params: RealParams, data: Data, seed: int, checkpoint: Path) -> training.State:
    """A trial of two classes, opened and trained to its last epoch."""
    state = open_trial(params, 2, seed, checkpoint)
    for _epoch in train_trial(state, params, data, seed, checkpoint):
        pass

    return state


@pytest.fixture
def data(tmp_path) -> Data:
    """Six images of class 0 and two of class 1; a real image is replaced in one of four cases."""
    real = noise_table(tmp_path / "real", pd.DataFrame({"label": LABELS.tolist()}))
    synthetic = noise_table(tmp_path / "synthetic", pd.DataFrame({"label": [1, 1, 1]}))
    zeros = torch.zeros(3, dtype=torch.long)
    soft = Shares(zeros, zeros + 1, torch.full((3,), 0.75), classes=2)
    hard = hard_labels(pd.Series(LABELS.numpy()), 2)

    return Data(Pool(Pictures(real, 8), hard), Pool(Pictures(synthetic, 8), soft), p=0.25)


def one_epoch(
    state: training.State, data: Data, epoch: int, params: RealParams, seed: int = 0
) -> None:
    course = open_course(params, data, seed, range(epoch, epoch + 1))
    train_epoch(state, course, epoch, params)


def steps_of(
    monkeypatch, data: Data, epoch: int, params: RealParams
) -> list[tuple[torch.Tensor, ...]]:
    """What train_step is given in one epoch: images, labels, weights."""
    steps = []

    def record(state, images, labels, weights, rate):
        steps.append((images, join(labels), weights))
        return torch.zeros(2)

    monkeypatch.setattr(training, "train_step", record)
    one_epoch(new_state(params, 2, 0), data, epoch, params)

    return steps


def test_history_by_hand_when_nothing_is_learned(data, monkeypatch):
    """With a zeroed head all answers are even: the loss is log 2, and class 0 is always named."""
    params = recipe()
    state = new_state(params, 2, seed=0)
    with torch.no_grad():
        for parameter in state["network"][1][-1].parameters():
            parameter.zero_()
    monkeypatch.setattr(training, "rate_factor", lambda *_: 0.0)

    one_epoch(state, data._replace(p=0.0), 0, params)

    assert state["history"] == [[0, pytest.approx(np.log(2), abs=1e-6), 75.0, 0.0]]


@pytest.mark.parametrize(("epoch", "mixed"), [(3, False), (4, True), (6, True), (7, False)])
def test_cmo_pastes_real_patches_in_its_epochs(data, monkeypatch, epoch, mixed):
    """Class 0 black, class 1 white: a label's share of class 1 is the image's share of white."""
    for row, label in enumerate(LABELS.tolist()):
        data.real.pictures.kept[row] = torch.full((3, 8, 8), 255 * label, dtype=torch.uint8)

    steps = steps_of(monkeypatch, data._replace(p=0.0), epoch, recipe("cmo", epochs=10))

    assert [len(images) for images, _, _ in steps] == [4, 4]
    for images, labels, _ in steps:
        torch.testing.assert_close(labels[:, 1], images.mean((1, 2, 3)) / 255)
    shares = torch.cat([labels[:, 1] for _, labels, _ in steps])
    assert bool(((shares > 0) & (shares < 1)).any()) == mixed


@pytest.mark.parametrize(("epoch", "weights"), [(7, None), (8, [0.500075, 1.499925])])
def test_drw_weighs_the_classes_by_their_real_images_from_the_milestone_on(
    data, monkeypatch, epoch, weights
):
    """(1 - b) / (1 - b^n) for n = 6 and 2 is 0.166708 and 0.500025.

    Scaled to a sum of 2, that is 0.500075 and 1.499925.
    """
    found = steps_of(monkeypatch, data, epoch, recipe(reweight="drw", epochs=10))[0][2]

    assert (found is None) == (weights is None)
    if weights:
        assert found.tolist() == pytest.approx(weights, abs=1e-6)


def test_an_epoch_without_drw_has_no_weights(data, monkeypatch):
    assert steps_of(monkeypatch, data, 9, recipe(epochs=10))[0][2] is None


def test_the_rate_is_that_of_the_schedule(data, tmp_path):
    history = train(recipe(epochs=5), data, 0, tmp_path / "trial.pt")["history"]

    # The second milestone, nine tenths of five epochs, is never reached; the last epoch is past
    # the first one, eight tenths.
    assert [rate for *_, rate in history] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.001])


def same(one: training.State, other: training.State) -> bool:
    tensors = [state["network"].state_dict().values() for state in (one, other)]

    return one["history"] == other["history"] and all(map(torch.equal, *tensors))


VARIANTS = {
    "cmo and drw": recipe("cmo", "drw", epochs=9),
    "cutmix and a cosine": recipe("cutmix", schedule="cosine"),
    "mixup and resized crops": recipe("mixup", augmentation="resized-crop"),
}


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS)
def test_a_resumed_trial_equals_an_unbroken_one(data, tmp_path, monkeypatch, params):
    monkeypatch.setenv("DIFFMIX_CHECKPOINT", "0")
    unbroken = train(params, data, 5, tmp_path / "unbroken.pt")
    torch.rand(3)  # what is drawn between the two trials must not matter

    state = open_trial(params, 2, 5, tmp_path / "broken.pt")
    epochs = train_trial(state, params, data, 5, tmp_path / "broken.pt")
    assert [next(epochs)[0], next(epochs)[0]] == [0, 1]
    assert len(torch.load(tmp_path / "broken.pt", weights_only=True)["history"]) == 2

    resumed = open_trial(params, 2, 5, tmp_path / "broken.pt")
    assert len(resumed["history"]) == 2
    epochs = train_trial(resumed, params, data, 5, tmp_path / "broken.pt")
    assert [line[0] for line in epochs] == list(range(2, params.train.epochs))
    assert same(resumed, unbroken)


def test_a_finished_trial_is_loaded_and_not_trained_again(data, tmp_path):
    finished = train(recipe(), data, 0, tmp_path / "trial.pt")

    state = open_trial(recipe(), 2, 0, tmp_path / "trial.pt")
    assert list(train_trial(state, recipe(), data, 0, tmp_path / "trial.pt")) == []
    assert same(state, finished)
    assert same(load_trial(recipe(), 2, tmp_path / "trial.pt"), finished)


@pytest.mark.parametrize("params", VARIANTS.values(), ids=VARIANTS)
def test_workers_change_nothing(data, tmp_path, monkeypatch, params):
    alone = train(params, data, 5, tmp_path / "alone.pt")

    monkeypatch.setenv("DIFFMIX_WORKERS", "2")
    assert same(train(params, data, 5, tmp_path / "helped.pt"), alone)


def test_seeds_make_classifiers_that_differ(data, tmp_path):
    one, other = (train(recipe(), data, seed, tmp_path / f"{seed}.pt") for seed in (0, 1))

    assert not same(one, other)


def test_an_answer_is_the_networks_output_for_the_image(data):
    network = new_state(recipe(), 2, seed=0)["network"].eval()
    pixels = torch.stack([data.real.pictures[row] for row in range(8)])

    found = answer(network, data.real.pictures, recipe(batch=3).train)

    with torch.no_grad():
        torch.testing.assert_close(found, network(pixels))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 11, "padding": 1}, "train: resolution must be at most resize . 2"),
        (
            {"resolution": 9, "padding": 1, "augmentation": "resized-crop"},
            "train: resolution must be at most resize;",
        ),
        ({"architecture": "vit_b_16"}, "multiple of 16"),
        ({"pretrained": True}, "no pretrained weights"),
        ({"architecture": "resnet34"}, "train.architecture"),
        ({"epochs": 0}, "train.epochs"),
        ({"schedule": "steps"}, "train.schedule"),
        ({"augmentation": "resized"}, "train.augmentation"),
    ],
)
def test_refuses_options_that_do_not_fit(changes, message):
    arm = {"mix": "none", "mix_probability": 0.0, "reweight": "none"}

    with pytest.raises(BadInput, match=message):
        pick(RealParams, {"seed": 0, "train": OPTIONS | changes, "arm": arm})


def test_refuses_drw_with_a_cosine_and_names_the_arm():
    tree = {"seed": 0, "train": OPTIONS | {"schedule": "cosine"}}
    tree["arms"] = {"real": {"cmo-drw": {"mix": "cmo", "mix_probability": 0.5, "reweight": "drw"}}}

    message = r"params.yaml: arms\.real\.cmo-drw: drw needs train\.schedule step; set "
    with pytest.raises(BadInput, match=message):
        pick(RealParams, tree, {"arm": "arms.real.cmo-drw"})


def test_bf16_trains_weights_of_fp32_to_nearly_the_same(data, monkeypatch):
    """In bf16 the first loss differs by rounding alone; weights, with small steps, stay in fp32."""
    losses = {}
    for precision in ("fp32", "bf16"):
        monkeypatch.setenv("DIFFMIX_PRECISION", precision)
        state = new_state(recipe(), 2, seed=0)
        one_epoch(state, data, 0, recipe())
        losses[precision] = state["history"][0][1]

        assert {parameter.dtype for parameter in state["network"].parameters()} == {torch.float32}
        assert answer(state["network"], data.real.pictures, recipe().train).dtype == torch.float32

    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.1)
    assert losses["bf16"] != losses["fp32"]

"""Several processes: the same images to the bit, the same training to rounding.

And one dead worker ends the run.
"""

import shutil
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from stages.shared.errors import BadInput
from stages.shared.running import processes
from tests.support.small_project import (
    MANY_IMAGES,
    contents,
    copy_project,
    dvc,
    finish,
    start,
    write_params,
)

ACCELERATE = f"{sys.executable} -m accelerate.commands.launch"
TWO = {"DIFFMIX_LAUNCHER": f"{ACCELERATE} --multi_gpu --num_processes 2"}


def test_a_process_alone_has_all_of_it():
    assert processes.share(range(5)) == [0, 1, 2, 3, 4]
    assert processes.gather({3: "c", 1: "a"}) == {1: "a", 3: "c"}


def test_items_are_dealt_in_order_to_whoever_has_least_to_do():
    assert processes.deal("abcdef", [3, 1, 1, 1, 2, 9], 2) == [["a", "e"], ["b", "c", "d", "f"]]
    assert processes.deal("ab", [1, 1], 3) == [["a"], ["b"], []]


def test_what_is_dealt_differs_by_one_item_at_most():
    costs = np.random.default_rng(0).integers(1, 23, size=300).tolist()
    loads = [sum(part) for part in processes.deal(costs, costs, 8)]

    assert sum(loads) == sum(costs)
    assert max(loads) - min(loads) <= max(costs)


def test_a_process_alone_leaves_its_gradients_as_they_are():
    parameter = torch.nn.Parameter(torch.tensor([2.0]))
    loss = (parameter**2).sum()
    loss.backward()

    assert processes.sum_gradients([parameter], loss.detach()) == 4
    assert parameter.grad.tolist() == [4.0]


def test_a_kept_loss_keeps_no_gradients():
    parameter = torch.nn.Parameter(torch.ones(1000))
    loss = (parameter**2).sum()
    loss.backward()

    total = processes.sum_gradients([parameter], loss.detach(), add=lambda mine: 2 * mine)
    assert total == 2000
    assert total.untyped_storage().nbytes() == total.element_size()


def test_a_launcher_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("DIFFMIX_LAUNCHER", "no-such-launcher --num_processes 2")

    reason = r"DIFFMIX_LAUNCHER: there is no command 'no-such-launcher'; install it, or"
    with pytest.raises(BadInput, match=reason):
        processes.launch()


def test_one_gpu_for_all_processes_is_refused(monkeypatch):
    two = SimpleNamespace(num_processes=2)
    monkeypatch.setattr(processes, "PartialState", lambda cpu, timeout: two)

    monkeypatch.setattr(processes, "device", lambda: torch.device("cuda:1"))
    reason = "DIFFMIX_DEVICE: all processes would share cuda:1; unset it"
    with pytest.raises(BadInput, match=reason):
        processes.processes.__wrapped__()

    monkeypatch.setattr(processes, "device", lambda: torch.device("cuda"))
    assert processes.processes.__wrapped__() is two


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A pipeline that one process has run."""
    folder = copy_project(tmp_path_factory.mktemp("launched"), MANY_IMAGES)
    dvc(folder, "repro", "train@diffmix")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("stages.synthesize",), "data/synthesize"),
        (("stages.filter",), "data/filter"),
        (("stages.train", "synthetic", "diffmix"), "data/train/diffmix"),
    ],
)
def test_two_processes_write_what_one_does_to_the_bit(project, command, output):
    alone = contents(project / output)
    shutil.rmtree(project / output)
    finish(start(project, *command, **TWO))

    assert contents(project / output) == alone


@pytest.mark.slow
def test_two_processes_fine_tune_as_one_does_with_the_same_batch(project, tmp_path):
    """Each sees half of a batch: only summed gradients of LoRA and tokens lead to equal weights."""
    together = project / "data/finetune"
    alone = tmp_path / "alone"
    shutil.copytree(together, alone)
    finish(start(project, "stages.finetune", **TWO))

    losses = [pd.read_csv(folder / "losses.csv")["loss"] for folder in (alone, together)]
    assert np.allclose(*losses, atol=2e-5)
    for path in sorted(alone.rglob("*.safetensors")):
        one = load_file(path)
        two = load_file(together / path.relative_to(alone))
        assert all(torch.allclose(one[name], two[name], atol=1e-4) for name in one)

    shutil.rmtree(together)
    shutil.copytree(alone, together)


@pytest.mark.slow
def test_two_processes_train_one_trial_as_one_does(project, tmp_path):
    """Each sees half of a batch: batch normalisation and gradients are those of both halves."""
    command = ("stages.train", "real", "cutmix")
    changes = {"train.trials": 1, "train.epochs": 3, "train.learning_rate": 0.001}
    write_params(project, MANY_IMAGES | changes)
    finish(start(project, *command))
    alone = tmp_path / "alone"
    shutil.copytree(project / "data/train/cutmix", alone)
    finish(start(project, *command, **TWO))
    write_params(project, MANY_IMAGES)

    together = project / "data/train/cutmix"
    one, two = (load_file(folder / "trial-0.safetensors") for folder in (alone, together))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-4)
    assert any(not torch.equal(two[name], tensor) for name, tensor in one.items())

    curves, predictions = (
        [pd.read_csv(folder / name) for folder in (alone, together)]
        for name in ("curves.csv", "predictions.csv")
    )
    pd.testing.assert_frame_equal(*curves, atol=2e-4)
    pd.testing.assert_frame_equal(*predictions)


@pytest.mark.slow
def test_a_batch_too_small_for_the_processes_is_refused(project):
    write_params(project, MANY_IMAGES | {"finetune.batch": 1})
    output = finish(start(project, "stages.finetune", **TWO), status=1)
    write_params(project, MANY_IMAGES)

    assert "params.yaml: finetune.batch: 1 images cannot be shared by 2 processes" in output


@pytest.mark.slow
def test_a_dead_worker_ends_the_run_which_then_goes_on(project):
    alone = contents(project / "data/synthesize")
    shutil.rmtree(project / "data/synthesize")

    run = start(project, "stages.synthesize", **TWO)
    while not list((project / ".work/synthesize").glob("*/shard-*.tar.csv")):
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.05)

    children = psutil.Process(run.pid).children()
    workers = [child for child in children if "stages.synthesize" in child.cmdline()]
    workers[1].kill()
    assert "exitcode  : -9" in finish(run, status=1)

    finish(start(project, "stages.synthesize", **TWO))
    assert contents(project / "data/synthesize") == alone

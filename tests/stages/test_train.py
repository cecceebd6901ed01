"""An arm from its parameters to what is published, on a tiny real network."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file

from stages import train
from stages.shared.classifier import training
from stages.shared.classifier.networks import build_network, small_resnet
from stages.shared.classifier.training import answer, open_trial
from stages.shared.errors import BadInput
from stages.shared.files import write_csv
from stages.shared.manifests import read_manifest, write_classes
from stages.shared.params import leaves, pick
from stages.shared.running import forks
from tests.conftest import CLIP
from tests.support.launched import launched
from tests.support.noise import noise_table

OPTIONS: dict[str, Any] = {
    "architecture": "small_resnet", "pretrained": False, "resize": 8, "resolution": 8, "padding": 1,
    "epochs": 3, "batch": 4, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005,
    "schedule": "cosine", "augmentation": "crop", "warmup": 0.1, "label_smoothing": 0.1,
    "trials": 2,
}  # fmt: skip
UNMIXED = {"mix": "none", "mix_probability": 0.0, "reweight": "none"}
CUTMIX = {"mix": "cutmix", "mix_probability": 0.5, "reweight": "none"}
TREE: dict[str, Any] = {
    "seed": 5,
    "train": OPTIONS,
    "arms": {
        "real": {"baseline": UNMIXED},
        "synthetic": {
            "diffmix": {"p": 0.5, "labels": "eq3", **CUTMIX},
            "taught": {"p": 0.5, "labels": "baseline", **UNMIXED},
            "clipped": {"p": 0.5, "labels": "clip", **UNMIXED},
        },
    },
    "synth": {"gamma": 0.5, "steps": 25},
    "clip": {"id": CLIP, "revision": None},
}
ARMS = [("real", "baseline"), *(("synthetic", arm) for arm in TREE["arms"]["synthetic"])]


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A repository with two classes.

    Ten training images, six test images, two ood; of three synthetic images two are kept.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    download = Path("data/download")
    ood = pd.DataFrame({"label": [0, 1], "group": ["landbird_water", "waterbird_land"]})
    noise_table(download / "train", pd.DataFrame({"label": [0, 1] * 5}))
    noise_table(download / "test", pd.DataFrame({"label": [0, 1] * 3}))
    noise_table(download / "ood", ood)
    write_classes(download, ["Gull", "Tern"], "bird")

    made = pd.DataFrame({"label": [0, 1, 1], "source_label": [1, 0, 0], "target_label": [0, 1, 1]})
    noise_table(Path("data/synthesize"), made.assign(strength=[0.7, 0.7, 0.9]))

    write_csv(Path("data/subsample/manifest.csv"), read_manifest(download / "train"))
    write_csv(Path("data/filter/manifest.csv"), read_manifest(Path("data/synthesize")).head(2))
    Path("data/method").mkdir()
    Path("data/method/plan.json").write_text('{"mode": "mix", "strength": [0.5, 0.7, 0.9]}')
    write_params()

    return tmp_path


def write_params(**changes: Any) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(TREE | changes))


def run_arm(monkeypatch, *arguments: str) -> Path:
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    train.main()
    return Path("data/train", arguments[1])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def load_arm(arm: str) -> tuple[train.SyntheticParams, train.Data]:
    params = train.load_params("synthetic", arm)
    assert isinstance(params, train.SyntheticParams)
    return params, train.load_data(params)


def train_teacher(arm: str, seed: int, checkpoint: Path) -> torch.nn.Module:
    """The network of an arm's teacher, trained to its last epoch."""
    params, data = load_arm(arm)
    state = open_trial(params, 2, seed, checkpoint)
    for _epoch in train.train_teacher(state, params, data, seed, checkpoint):
        pass

    return state["network"]


def labels(data: train.Data) -> np.ndarray:
    assert data.synthetic is not None
    return data.synthetic.labels[:].numpy()


def test_an_arm_reads_gamma_smoothing_and_p_from_its_parameters(world):
    """s = 0.7 and gamma = 0.5 give the target 0.8367.

    Smoothing 0.1 over two classes leaves 0.9 of it and adds 0.05.
    """
    _, data = load_arm("diffmix")
    assert data.p == 0.5
    assert data.real.labels[0].tolist() == pytest.approx([0.95, 0.05])
    target = 0.9 * 0.7**0.5 + 0.05
    assert labels(data)[0] == pytest.approx([target, 1 - target])


def test_a_gamma_for_each_strength_counts_the_methods_strengths(world):
    """No image was drawn at 0.5, and the filter has left none at 0.9."""
    write_params(synth={"gamma": [2.0, 1.0, 0.1]})
    _, data = load_arm("diffmix")
    target = 0.9 * 0.7 + 0.05
    assert labels(data)[0] == pytest.approx([target, 1 - target])


def test_a_gamma_too_few_stops_before_anything_is_trained(world, monkeypatch):
    write_params(synth={"gamma": [0.1, 0.5]})
    with pytest.raises(BadInput, match=r"params.yaml: synth.gamma: has 2 numbers for 3 strengths"):
        run_arm(monkeypatch, "synthetic", "diffmix")
    assert not list(Path(".work").rglob("*.pt"))


def test_a_teachers_labels_are_its_softmax(world):
    params, data = load_arm("taught")
    teacher = train_teacher("taught", 5, world / "teacher.pt")
    found = labels(train.teach(data, teacher, params.train))

    pictures = data.synthetic.pictures  # type: ignore[union-attr]
    with torch.no_grad():
        answers = teacher(torch.stack([pictures[row] for row in range(2)]))
    powers = np.exp(answers.numpy().astype(float))

    assert found == pytest.approx(powers / powers.sum(1, keepdims=True), abs=1e-3)
    assert found.sum(1) == pytest.approx([1, 1])
    assert not np.allclose(found, labels(data))


def test_the_teacher_is_the_baseline_arms_classifier_of_the_same_trial(world, monkeypatch):
    published = load_file(run_arm(monkeypatch, "real", "baseline") / "trial-1.safetensors")
    teacher = train.weights(train_teacher("taught", 6, world / "teacher.pt"))

    assert all(torch.equal(tensor, published[name]) for name, tensor in teacher.items())


def test_clip_labels_are_smoothed_and_sum_to_one(world):
    _, data = load_arm("clipped")
    assert labels(data).sum(1) == pytest.approx([1, 1])
    assert labels(data).min() >= 0.05


@pytest.mark.parametrize(("group", "arm"), ARMS)
def test_writes_what_the_contract_says(world, monkeypatch, group, arm):
    output = run_arm(monkeypatch, group, arm)
    weights = ["trial-0.safetensors", "trial-1.safetensors"]
    assert list(contents(output)) == ["curves.csv", "predictions.csv", *weights]

    rows = pd.read_csv(output / "predictions.csv", dtype={"key": str}, keep_default_na=False)
    ood = rows.loc[rows["split"] == "ood", "group"].tolist()
    assert list(rows.columns) == ["trial", "split", "key", "label", "predicted", "group"]
    assert rows.groupby(["trial", "split"]).size().tolist() == [2, 6, 2, 6]
    assert ood == ["landbird_water", "waterbird_land"] * 2
    assert set(rows.loc[rows["split"] == "test", "group"]) == {""}

    curves = pd.read_csv(output / "curves.csv")
    epochs = [[trial, epoch] for trial in (0, 1) for epoch in (0, 1, 2)]
    assert list(curves.columns) == ["trial", "epoch", "loss", "accuracy", "learning_rate"]
    assert curves[["trial", "epoch"]].to_numpy().tolist() == epochs

    last = json.loads(Path(f"metrics/train/{arm}.json").read_text())
    assert [path.name for path in Path("metrics/train").iterdir()] == [f"{arm}.json"]
    assert last["loss"] == pytest.approx(curves.loc[curves["epoch"] == 2, "loss"].mean(), abs=1e-4)
    assert not list(Path(".work").rglob("*.pt"))


def test_equal_runs_write_equal_bytes(world, monkeypatch):
    first = contents(run_arm(monkeypatch, "real", "baseline"))
    assert contents(run_arm(monkeypatch, "real", "baseline")) == first


@pytest.mark.parametrize(("group", "arm"), ARMS[:2])
def test_trials_publish_weights_that_differ(world, monkeypatch, group, arm):
    output = run_arm(monkeypatch, group, arm)
    one, other = (load_file(output / f"trial-{trial}.safetensors") for trial in (0, 1))
    assert any(not torch.equal(tensor, other[name]) for name, tensor in one.items())


@pytest.mark.parametrize("saves", [1, 3, 5, 8, 11])
def test_an_arm_interrupted_anywhere_publishes_the_same_bytes(world, monkeypatch, saves):
    """Two trials of teacher and pupil with three epochs each: twelve saves.

    The run is cut off at one of them.
    """
    monkeypatch.setenv("DIFFMIX_CHECKPOINT", "0")
    unbroken = contents(run_arm(monkeypatch, "synthetic", "taught"))
    metrics = contents(Path("metrics/train"))
    save = training.save_state
    left = [saves]
    monkeypatch.setattr(forks, "cores", lambda: 1)  # a process of its own would count by itself

    def save_and_stop(state, path):
        save(state, path)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "save_state", save_and_stop)
    with pytest.raises(SystemExit, match="130"):
        run_arm(monkeypatch, "synthetic", "taught")
    assert list(Path(".work").rglob("*.pt"))

    assert contents(run_arm(monkeypatch, "synthetic", "taught")) == unbroken
    assert contents(Path("metrics/train")) == metrics
    assert left[0] == saves - 12  # what was saved was not trained again


def tensors(output: Path) -> dict[str, torch.Tensor]:
    """The published weights of trial 0."""
    return load_file(output / "trial-0.safetensors")


@pytest.mark.parametrize(("group", "arm"), ARMS)
def test_two_processes_share_the_only_trial(world, monkeypatch, group, arm):
    monkeypatch.setenv("DIFFMIX_DEVICE", "cpu")
    write_params(train=OPTIONS | {"trials": 1, "learning_rate": 0.001})
    output = run_arm(monkeypatch, group, arm)
    rows = pd.read_csv(output / "predictions.csv")
    alone = [tensors(output), pd.read_csv(output / "curves.csv")]
    shutil.rmtree(output)

    launched(2, lambda: str(run_arm(monkeypatch, group, arm)))

    torch.testing.assert_close(tensors(output), alone[0], rtol=1e-3, atol=1e-4)
    pd.testing.assert_frame_equal(pd.read_csv(output / "curves.csv"), alone[1], atol=2e-4)
    pd.testing.assert_frame_equal(pd.read_csv(output / "predictions.csv"), rows)
    assert not list(Path(".work").rglob("*.pt"))


def test_a_batch_too_small_for_the_processes_stops_before_anything_is_trained(world, monkeypatch):
    """Ten images in batches of four at most are batches of four, three and three."""
    write_params(train=OPTIONS | {"trials": 1})

    message = "train.batch: a batch of 3 images cannot be shared by 4 processes"
    with pytest.raises(BadInput, match=message):
        launched(4, lambda: str(run_arm(monkeypatch, "real", "baseline")))
    assert not list(Path(".work").rglob("*.pt"))


@pytest.mark.parametrize(("trials", "equal"), [(1, False), (2, True)])
def test_unfinished_work_is_that_of_as_many_processes(world, monkeypatch, trials, equal):
    """Where they share a trial, their last bits differ from those of one process."""
    monkeypatch.setenv("DIFFMIX_DEVICE", "cpu")
    write_params(train=OPTIONS | {"trials": trials})
    monkeypatch.setattr("sys.argv", ["train", "real", "baseline"])

    def stop(_stage: str, key: str) -> None:
        raise LookupError(key)

    def key_of_work() -> str:
        with pytest.raises(LookupError) as caught:
            train.main()
        return str(caught.value)

    monkeypatch.setattr(train, "common_folder", stop)
    alone = key_of_work()
    assert [key == alone for key in launched(2, key_of_work)] == [equal, equal]


def test_the_published_weights_make_the_published_predictions(world, monkeypatch):
    output = run_arm(monkeypatch, "real", "baseline")
    params = train.load_params("real", "baseline")
    classifier = small_resnet(2, 8)
    classifier.load_state_dict(load_file(output / "trial-1.safetensors"))
    normalise, _classifier = build_network("small_resnet", 2, 8, False).children()
    network = torch.nn.Sequential(normalise, classifier)
    again = answer(network, train.load_tests(8, 2)["test"], params.train)

    rows = pd.read_csv(output / "predictions.csv")
    expected = rows.loc[(rows["trial"] == 1) & (rows["split"] == "test"), "predicted"].tolist()
    assert again.argmax(1).tolist() == expected


def test_learns_red_from_blue(world, monkeypatch):
    write_params(train=OPTIONS | {"epochs": 40, "trials": 1})
    rows = pd.read_csv(run_arm(monkeypatch, "real", "baseline") / "predictions.csv")
    assert (rows["label"] == rows["predicted"]).all()


def test_a_dataset_without_ood_is_tested_on_test_alone(world, monkeypatch):
    nothing = pd.DataFrame({"label": [], "group": []}).astype({"label": int})
    noise_table(Path("data/download/ood"), nothing)

    rows = pd.read_csv(run_arm(monkeypatch, "real", "baseline") / "predictions.csv")
    assert set(rows["split"]) == {"test"}


def test_an_arms_leaves_are_its_own_and_what_labels_need():
    real = leaves(train.RealParams, {"arm": "arms.real.X"})
    synthetic = leaves(train.SyntheticParams, {"arm": "arms.real.X"})
    recipe = [f"train.{name}" for name in OPTIONS]

    assert real == ["seed", *recipe, *(f"arms.real.X.{name}" for name in UNMIXED)]
    assert set(synthetic) - set(real) == {
        "arms.real.X.p", "arms.real.X.labels", "synth.gamma", "clip.id", "clip.revision",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("leaf", "value"),
    [("p", 1.2), ("p", -0.1), ("labels", "teacher"), ("mix", "cutmux"), ("reweight", "yes")],
)
def test_refuses_arms_out_of_range(leaf, value):
    arms = {"synthetic": {"diffmix": TREE["arms"]["synthetic"]["diffmix"] | {leaf: value}}}
    with pytest.raises(BadInput, match=f"arms.synthetic.diffmix.{leaf}"):
        pick(train.SyntheticParams, TREE | {"arms": arms}, {"arm": "arms.synthetic.diffmix"})


def test_refuses_drw_with_a_cosine_in_a_synthetic_arm_too():
    arms = {"synthetic": {"diffmix": TREE["arms"]["synthetic"]["diffmix"] | {"reweight": "drw"}}}
    with pytest.raises(
        BadInput, match=r"params.yaml: arms\.synthetic\.diffmix: drw needs train\.schedule step"
    ):
        pick(train.SyntheticParams, TREE | {"arms": arms}, {"arm": "arms.synthetic.diffmix"})


def test_refuses_negative_gamma():
    tree = TREE | {"synth": {"gamma": -0.1}}
    with pytest.raises(
        BadInput, match=r"synth\.gamma: must be a number of at least 0, .* \(it is -0\.1\)"
    ):
        pick(train.SyntheticParams, tree, {"arm": "arms.synthetic.diffmix"})


@pytest.mark.parametrize("arguments", [(), ("real",), ("unreal", "baseline")])
def test_refuses_arguments_that_name_no_arm(world, monkeypatch, capsys, arguments):
    with pytest.raises(SystemExit, match="2"):
        run_arm(monkeypatch, *arguments)
    assert "usage: python -m stages.train [-h] {real,synthetic} arm" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("real", "diffmix"), ("synthetic", "nosuch")])
def test_refuses_an_unknown_arm_and_names_those_there_are(world, monkeypatch, arguments):
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    known = "real baseline, synthetic clipped, synthetic diffmix, synthetic taught"
    with pytest.raises(BadInput, match=f"it has {known}$"):
        train.main()

"""The training loop, its schedule, its resuming and its outputs, on a tiny real network."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from stages import train
from stages.shared.errors import BadInput
from stages.shared.networks import small_resnet
from stages.shared.params import pick
from stages.shared.tables import encode_png, read_manifest, write_classes, write_manifest, write_table

OPTIONS: dict[str, Any] = {
    "architecture": "small_resnet", "pretrained": False, "resize": 8, "resolution": 8, "padding": 1, "epochs": 3,
    "batch": 4, "learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.0005, "warmup": 0.1, "label_smoothing": 0.1,
    "trials": 2,
}  # fmt: skip
TREE: dict[str, Any] = {
    "seed": 5,
    "train": OPTIONS,
    "arms": {
        "real": {"baseline": {"mix": "none", "mix_probability": 0.0}},
        "synthetic": {"diffmix": {"p": 0.5, "mix": "cutmix", "mix_probability": 0.5}},
    },
    "synth": {"gamma": 0.5, "steps": 25},
}


def write_images(folder: Path, rows: pd.DataFrame) -> None:
    """Noise on red for label 0, on blue for label 1."""
    random = np.random.default_rng(len(rows))
    pixels = random.integers(120, size=(len(rows), 8, 8, 3), dtype=np.uint8)
    pixels[np.arange(len(rows)), :, :, 2 * rows["label"].to_numpy()] += 130
    write_table(folder, [encode_png(Image.fromarray(image)) for image in pixels], rows)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """A repository with two classes: ten training images, six test images, two of them again as ood."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    download = Path("data/download")
    write_images(download / "train", pd.DataFrame({"label": [0, 1] * 5}))
    write_images(download / "test", pd.DataFrame({"label": [0, 1] * 3}))
    write_images(download / "ood", pd.DataFrame({"label": [0, 1], "group": ["landbird_water", "waterbird_land"]}))
    write_classes(download, ["Gull", "Tern"], "bird")
    made = pd.DataFrame({"label": [0, 1, 1], "source_label": [1, 0, 0], "target_label": [0, 1, 1], "strength": 0.7})
    write_images(Path("data/synthesize"), made)
    for name, source in {"subsample": download / "train", "filter": Path("data/synthesize")}.items():
        Path("data", name).mkdir()
        write_manifest(Path("data", name), read_manifest(source))
    Path("params.yaml").write_text(yaml.safe_dump(TREE))
    return tmp_path


def options(**changes: Any) -> train.Train:
    return train.Train(**(OPTIONS | changes))


def run_arm(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["train", *arguments])
    train.main()


@pytest.mark.parametrize(
    ("step", "rate"),
    [(0, 0.02), (4, 0.1), (5, 0.1), (20, 0.075), (27.5, 0.05), (49, 0.1 * (1 + np.cos(np.pi * 44 / 45)) / 2)],
)
def test_learning_rate_warms_up_and_falls_as_a_cosine(step, rate):
    assert train.learning_rate(step, 50, options()) == pytest.approx(rate)


def test_learning_rate_without_warm_up_starts_at_the_top():
    assert train.learning_rate(0, 50, options(warmup=0.0)) == 0.1


def load_trial(synthetic: bool = True) -> tuple[train.RealParams, train.Data]:
    params = train.load_params(*(("synthetic", "diffmix") if synthetic else ("real", "baseline")))
    return params, train.load_data(params, train.read_classes(Path("data/download")))


def test_an_arm_reads_gamma_smoothing_and_p_from_its_parameters(world):
    """s = 0.7 and gamma = 0.5 give the target 0.8367; smoothing 0.1 over two classes leaves 0.9 of it and adds 0.05."""
    _, data = load_trial()
    assert data.p == 0.5
    assert data.real.labels[0].tolist() == pytest.approx([0.95, 0.05])
    assert data.synthetic is not None
    target = 0.9 * 0.7**0.5 + 0.05
    assert data.synthetic.labels[0].tolist() == pytest.approx([target, 1 - target])


def test_a_resumed_trial_equals_an_unbroken_one(world, monkeypatch):
    params, data = load_trial()
    monkeypatch.setattr(train, "CHECKPOINT_SECONDS", 0)
    unbroken = train.train_trial(params, data, 5, world / "unbroken.pt")
    torch.rand(3)  # what happens between is not to matter

    def stop_after(epochs: int) -> None:
        if epochs and stop_after.left == 0:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        stop_after.left -= epochs  # type: ignore[attr-defined]

    stop_after.left = 1  # type: ignore[attr-defined]
    with pytest.raises(KeyboardInterrupt):
        train.train_trial(params, data, 5, world / "broken.pt", stop_after)
    assert len(torch.load(world / "broken.pt", weights_only=True)["history"]) == 1
    resumed = train.train_trial(params, data, 5, world / "broken.pt")
    assert resumed["history"] == unbroken["history"]
    for name, tensor in unbroken["network"].state_dict().items():
        assert torch.equal(tensor, resumed["network"].state_dict()[name]), name


def test_workers_change_nothing(world, monkeypatch):
    params, data = load_trial()
    alone = train.train_trial(params, data, 5, world / "alone.pt")
    monkeypatch.setenv("DIFFMIX_WORKERS", "2")
    helped = train.train_trial(params, data, 5, world / "helped.pt")
    assert helped["history"] == alone["history"]


def test_history_by_hand_when_nothing_is_learned(world, monkeypatch):
    """With a zeroed head all answers are even: the loss is log 2, whatever the label."""
    params, data = load_trial(synthetic=False)
    state = train.new_state(params, 2, seed=0)
    with torch.no_grad():
        for parameter in state["network"][1][-1].parameters():
            parameter.zero_()
    monkeypatch.setattr(train, "learning_rate", lambda *_: 0.0)
    train.train_epoch(state, data, train.draw_epoch(0, 0, data, 2), 0, params)
    assert state["history"] == [[0, pytest.approx(np.log(2), abs=1e-6), 50.0, 0.0]]  # argmax of even answers is 0


@pytest.mark.parametrize("arguments", [("real", "baseline"), ("synthetic", "diffmix")])
def test_writes_what_the_contract_says(world, monkeypatch, arguments):
    run_arm(monkeypatch, *arguments)
    output = Path("data/train", arguments[1])
    assert sorted(path.name for path in output.iterdir()) == [
        "predictions.csv",
        "trial-0.safetensors",
        "trial-1.safetensors",
    ]
    rows = pd.read_csv(output / "predictions.csv", dtype={"key": str}, keep_default_na=False)
    assert list(rows.columns) == ["trial", "split", "key", "label", "predicted", "group"]
    assert rows.groupby(["trial", "split"]).size().tolist() == [2, 6, 2, 6]
    assert rows.loc[rows["split"] == "ood", "group"].tolist() == ["landbird_water", "waterbird_land"] * 2
    assert set(rows.loc[rows["split"] == "test", "group"]) == {""}
    curves = pd.read_csv(f"metrics/train/{arguments[1]}.csv")
    assert list(curves.columns) == ["trial", "epoch", "loss", "accuracy", "learning_rate"]
    assert curves[["trial", "epoch"]].to_numpy().tolist() == [[t, e] for t in (0, 1) for e in (0, 1, 2)]
    last = json.loads(Path(f"metrics/train/{arguments[1]}.json").read_text())
    assert last["loss"] == pytest.approx(curves.loc[curves["epoch"] == 2, "loss"].mean(), abs=1e-4)
    assert not list(Path(".work").rglob("*.pt"))


def test_equal_runs_write_equal_bytes_and_seeds_differ(world, monkeypatch):
    def contents() -> list[bytes]:
        run_arm(monkeypatch, "real", "baseline")
        files = sorted([*Path("data/train").rglob("*.*"), *Path("metrics").rglob("*.*")])
        return [file.read_bytes() for file in files]

    assert contents() == contents()
    trials = [Path(f"data/train/baseline/trial-{trial}.safetensors").read_bytes() for trial in (0, 1)]
    assert trials[0] != trials[1]


def test_the_published_weights_make_the_published_predictions(world, monkeypatch):
    run_arm(monkeypatch, "real", "baseline")
    network = small_resnet(2)
    network.load_state_dict(load_file("data/train/baseline/trial-1.safetensors"))
    params, pictures = options(), train.load_tests(8)["test"]
    again = train.predict(
        torch.nn.Sequential(train.build_network("small_resnet", 2, 8, False)[0], network), pictures, params
    )
    rows = pd.read_csv("data/train/baseline/predictions.csv")
    assert again == rows.loc[(rows["trial"] == 1) & (rows["split"] == "test"), "predicted"].tolist()


def test_learns_red_from_blue(world, monkeypatch):
    Path("params.yaml").write_text(yaml.safe_dump(TREE | {"train": OPTIONS | {"epochs": 15, "trials": 1}}))
    run_arm(monkeypatch, "real", "baseline")
    rows = pd.read_csv("data/train/baseline/predictions.csv")
    assert (rows["label"] == rows["predicted"]).all()


def test_a_dataset_without_ood_is_tested_on_test_alone(world, monkeypatch):
    write_images(Path("data/download/ood"), pd.DataFrame({"label": [], "group": []}).astype({"label": int}))
    run_arm(monkeypatch, "real", "baseline")
    assert set(pd.read_csv("data/train/baseline/predictions.csv")["split"]) == {"test"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolution": 11}, "resolution must be at most resize"),
        ({"architecture": "vit_b_16"}, "multiple of 16"),
        ({"pretrained": True}, "no pretrained weights"),
        ({"architecture": "resnet34"}, "train.architecture"),
        ({"epochs": 0}, "train.epochs"),
    ],
)
def test_refuses_options_that_do_not_fit(changes, message):
    tree = TREE | {"train": OPTIONS | changes}
    with pytest.raises(BadInput, match=message):
        pick(train.RealParams, tree, {"arm": "arms.real.baseline"})


@pytest.mark.parametrize(
    ("arm", "value"), [("p", 1.2), ("p", -0.1), ("mix", "cutmux"), ("mix_probability", 2)]
)  # one leaf each
def test_refuses_arms_out_of_range(arm, value):
    arms = {"synthetic": {"diffmix": TREE["arms"]["synthetic"]["diffmix"] | {arm: value}}}
    with pytest.raises(BadInput, match=f"arms.synthetic.diffmix.{arm}"):
        pick(train.SyntheticParams, TREE | {"arms": arms}, {"arm": "arms.synthetic.diffmix"})


def test_refuses_negative_gamma():
    with pytest.raises(BadInput, match=r"synth\.gamma"):
        pick(train.SyntheticParams, TREE | {"synth": {"gamma": -0.1}}, {"arm": "arms.synthetic.diffmix"})


@pytest.mark.parametrize("arguments", [("real", "diffmix"), ("synthetic", "nosuch"), ()])
def test_refuses_an_unknown_arm_and_names_those_there_are(world, monkeypatch, arguments):
    with pytest.raises(BadInput, match=r"it has real baseline, synthetic diffmix$"):
        run_arm(monkeypatch, *arguments)

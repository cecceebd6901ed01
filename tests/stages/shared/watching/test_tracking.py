"""Who asks for trackers gets what a run says of itself; the run computes the same."""

import json
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from stages.shared.errors import BadInput
from stages.shared.watching.tracking import (
    Tracker,
    check_tracking,
    flatten,
    track,
    tracking_folder,
)

PARAMS = {"seed": 0, "finetune": {"steps": 3, "arms": ["a"], "revision": None}}


def test_nothing_is_tracked_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFMIX_TRACK", raising=False)
    check_tracking()

    with track(tmp_path / ".work/finetune/0a", PARAMS) as tracker:
        tracker.log({"loss": 0.5}, 0)

    assert not list(tmp_path.rglob("*"))


def test_dvclive_has_values_by_step_and_parameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFMIX_TRACK", "dvclive")
    check_tracking()

    with track(tmp_path / ".work/finetune/0a", PARAMS) as tracker:
        for step in range(3):
            tracker.log({"loss": 1 - step / 4}, step)

    folder = tmp_path / ".work/track/finetune/0a/dvclive"
    rows = pd.read_csv(folder / "plots/metrics/loss.tsv", sep="\t")
    assert rows["loss"].tolist() == [1, 0.75, 0.5]
    assert rows["step"].tolist() == [0, 1, 2]
    assert json.loads((folder / "metrics.json").read_text())["loss"] == 0.5
    assert "finetune.steps: 3" in (folder / "params.yaml").read_text()
    assert not (tmp_path / "dvc.yaml").exists()


def test_dvclive_keeps_what_was_told_before_an_interruption(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFFMIX_TRACK", "dvclive")

    for steps in (range(2), range(2, 4)):
        with track(tmp_path / ".work/finetune/0a", PARAMS) as tracker:
            for step in steps:
                tracker.log({"loss": 1 - step / 4}, step)

    rows = pd.read_csv(
        tmp_path / ".work/track/finetune/0a/dvclive/plots/metrics/loss.tsv", sep="\t"
    )
    assert rows["step"].tolist() == [0, 1, 2, 3]


class Wandb:
    """wandb, as far as its own steps: they only grow, and what lies behind is dropped."""

    name = "wandb"

    def __init__(self):
        self.step = 0
        self.kept: list[dict] = []

    def log(self, values: dict, step: int | None = None) -> None:
        self.step = self.step + 1 if step is None else max(self.step, step)
        if step in (None, self.step):
            self.kept.append(values)

    def log_images(self, values: dict, step: int | None = None) -> None:
        self.log(dict.fromkeys(values, "picture"), step)


def test_wandb_has_every_trial_from_its_first_epoch(tmp_path):
    service = Wandb()
    tracker = Tracker(tmp_path, [service])
    for trial in range(2):
        for epoch in range(2):
            tracker.log({f"trial-{trial}/loss": 0.5}, epoch)
    tracker.picture("samples", Image.new("RGB", (8, 4)), 1)

    assert service.kept == [
        {"trial-0/loss": 0.5, "step": 0}, {"trial-0/loss": 0.5, "step": 1},
        {"trial-1/loss": 0.5, "step": 0}, {"trial-1/loss": 0.5, "step": 1},
        {"samples": "picture"},
    ]  # fmt: skip


def test_tensorboard_has_values_and_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMIX_TRACK", "tensorboard")
    check_tracking()

    with track(tmp_path / ".work/train/baseline/0a", PARAMS) as tracker:
        tracker.log({"trial-0/loss": 0.5}, 7)
        tracker.picture("samples", Image.new("RGB", (8, 4), "red"), 7)

    folder = tmp_path / ".work/track/train/baseline/0a"
    assert Image.open(folder / "samples-000007.png").size == (8, 4)

    scalars = events(folder / "tensorboard/diff-mix")
    assert [(event.step, event.value) for event in scalars.Scalars("trial-0/loss")] == [(7, 0.5)]
    assert [(event.width, event.height) for event in scalars.Images("samples")] == [(8, 4)]


def events(folder: Path):
    """What TensorBoard reads of a folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulator.EventAccumulator(str(folder)).Reload()


@pytest.mark.parametrize(("name", "said"), [("tensorbord", "none of"), ("wandb", "not installed")])
def test_a_tracker_that_is_not_there_gets_one_line(name, said, monkeypatch):
    monkeypatch.setenv("DIFFMIX_TRACK", f"dvclive, {name}")

    with pytest.raises(BadInput, match=rf"^DIFFMIX_TRACK: '?{name}'? is .*{said}.*unset it$"):
        check_tracking()


def test_parameters_are_flat_numbers_and_words():
    assert flatten(PARAMS) == {
        "seed": 0, "finetune.steps": 3, "finetune.arms": "['a']", "finetune.revision": "None",
    }  # fmt: skip


def test_the_folder_mirrors_the_work_folder():
    assert tracking_folder(Path("/x/.work/train/a/0b")) == Path("/x/.work/track/train/a/0b")

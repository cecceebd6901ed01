"""`make estimate`: what it prints and refuses, and real calibrations of tiny models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import estimate
from experiments.estimating.costs import Task, lines, stores
from experiments.estimating.counts import count
from experiments.estimating.page import (
    Estimate,
    Paper,
    align,
    read_paper,
    show_paper,
    show_time,
    two,
    warnings,
)
from experiments.estimating.setting import read_setting
from experiments.tables.recipes import Changes
from stages.shared.errors import BadInput
from stages.shared.methods import METHODS
from tests.support.closure import ROOT
from tests.support.made_up_rates import GIB, HERE, PLAN, RATES, changed, rate, task_of
from tests.support.tiny_models import save_tiny


def told(task: Task) -> Estimate:
    return Estimate(task, lines(task, 1), stores(task), Paper("Diff-Mix", 4179), 1)


def test_the_papers_rate_stands_beside_ours():
    """30 images in 163.75 s are 660 an hour; the paper's GPU would take 30 / 4,179 of an hour."""
    said = show_paper(told(task_of(PLAN)))
    assert "makes 660 images an hour here" in said
    assert "makes 4,179 (Diff-Mix, 512 pixels): these 30 would take it 26 s." in said


@pytest.mark.parametrize(
    ("method", "paper"),
    [
        ("diff-mix", ("Diff-Mix", 4179)),
        ("real-guidance", ("Real-guidance", 20502)),
        ("diff-aug", ("Diff-Mix", 4179)),
    ],
)
def test_a_method_is_compared_with_its_row_of_table_11(method, paper):
    assert read_paper(method) == paper


def test_what_does_not_fit_is_said_with_the_parameter_to_lower():
    task = task_of(PLAN, RATES._replace(decode=rate(1.0, 50 * GIB, full=True)))
    said, *others = warnings(told(task))
    assert said.startswith(
        "synth.batch: 8 images at once take about 50 GiB, which is more than there is; 4 could be"
    )
    assert others == warnings(told(task_of(PLAN)))


def test_what_is_left_out_is_said():
    quiet = warnings(told(task_of(PLAN)))
    without = RATES._replace(clip=None, clip_missing="no such folder")
    (missing,) = set(warnings(told(task_of(PLAN, without)))) - set(quiet)
    (busy,) = set(warnings(told(task_of(PLAN, RATES._replace(others=1.26))))) - set(quiet)
    (background,) = set(warnings(told(task_of(PLAN, synth__keep_background=True)))) - set(quiet)
    assert missing == "What CLIP looks at is left out, since it cannot be loaded: no such folder"
    assert busy == "Other processes took 1.3 of 8 cores meanwhile: alone it is faster."
    assert "synth.keep_background" in background
    assert [line.split(":")[0] for line in quiet] == [
        "No image is there yet",
        "archives",
    ]  # 10 Waterbirds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12 ms"), (4.26, "4.3 s"), (89, "89 s"), (91, "1.5 min"), (5300, "88 min"), (5400, "1.5 h"),
     (1234567, "340 h")],
)  # fmt: skip
def test_times_have_two_digits_and_a_unit(seconds, text):
    assert show_time(seconds) == text


def test_two_significant_digits():
    assert [two(number) for number in (12345.6, 0.0456, 99.6, 7.0)] == [
        "12,000",
        "0.046",
        "100",
        "7",
    ]


def test_columns_stand_below_each_other():
    assert (
        align([["a", "long"], ["wide", "b"]]) == "| a    | long |\n| ---- | ---- |\n| wide | b    |"
    )


SMALL: Changes = {
    "data.toybirds.train_per_class": 2, "subset.mode": "full", "finetune.batch": 2, "synth.batch": 2, "train.batch": 4,
    "synth.multiplier": 1, "train.trials": 2,
}  # fmt: skip


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_real_base_is_calibrated(family, tmp_path, capsys):
    tree = changed(
        SMALL | {"base.id": str(save_tiny(tmp_path / "base", family)), "base.revision": None}
    )
    estimate.estimate(HERE, tree, 2, tmp_path / "found.json")
    said, found = capsys.readouterr().out, json.loads((tmp_path / "found.json").read_text())
    names = ["finetune", "synthesize", "filter", "assess", "attention", "train_real@baseline", "train_real@cutmix",
             "train@diffmix", "train@diffmix-cutmix"]  # fmt: skip
    assert [stage["stage"] for stage in found["stages"]] == names
    assert all(stage["seconds"] >= stage["shared"] > 0 for stage in found["stages"])
    assert found["images"] | {"origin": ""} == {
        "classes": 12, "train": 24, "test": 720, "ood": 480, "synthetic": 24, "origin": "",
    }  # fmt: skip
    assert (found["rates"]["learn"]["batch"], found["rates"]["test"]["batch"]) == (2, 16)
    assert found["rates"]["learned_bytes"] > 12 * 32 * 4  # a token's row for each class, and LoRA
    assert "| finetune " in said
    assert "The paper's GPU, an RTX 3090, makes 4,179" in said


def test_a_base_that_cannot_be_loaded_is_said_after_the_counts(tmp_path, capsys):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(BadInput, match="is a FluxPipeline; take one of StableDiffusionPipeline"):
        estimate.estimate(HERE, changed(SMALL | {"base.id": str(tmp_path / "base")}), 1, None)
    assert "| synthetic         | 24 " in capsys.readouterr().out


def test_another_base_is_a_folder_without_revision(tmp_path):
    path, tree = estimate.read_tree("photos", str(tmp_path))
    assert (path, tree["base"]) == (
        Path("presets/photos.yaml"),
        {"id": str(tmp_path), "revision": None},
    )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--preset", "moon"],
            "PRESET: there is no presets/moon.yaml; take one of .*photos, toybirds",
        ),
        (
            ["--preset", "toybirds", "--base", "nowhere"],
            "--base: there is no folder nowhere; name one",
        ),
        (["--processes", "0"], "--processes: 0 is not at least 1"),
        (
            ["--json", "nowhere/found.json"],
            "--json: nowhere/found.json is no file in a folder that exists",
        ),
    ],
)
def test_bad_arguments_are_refused(words, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["estimate", *words])
    with pytest.raises(BadInput, match=line):
        estimate.main()


def test_a_wrong_parameter_is_found_in_the_file_that_was_read():
    with pytest.raises(BadInput, match=r"^presets/toybirds\.yaml: subset\.shots: "):
        count(changed({"subset.shots": 0}), HERE)
    with pytest.raises(BadInput, match=r"^presets/toybirds\.yaml: train\.epochs: "):
        read_setting(changed({"train.epochs": 0}), HERE, METHODS["diff-mix"])


def test_a_refusal_waits_for_no_library():
    words = [sys.executable, "-X", "importtime", "-m", "experiments.estimate", "--preset", "moon"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "experiments.estimating.counts" in done.stderr
    assert "|torch" not in done.stderr.replace(" ", "")

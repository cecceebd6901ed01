"""A tiny preset through the real `dvc repro` in a temporary copy, then `dvc exp run` and `dvc metrics diff`."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.small_project import GIT, copy_project


def run(folder: Path, *command: str, status: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, env=os.environ | GIT, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '(.+?)'", output))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("project"), {})
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")
    return folder


GAMMA_RERUNS = {"check", "train@diffmix", "train@diffmix-cutmix", "evaluate", "report"}


def test_the_pipeline_writes_the_contracts_metrics(project):
    metrics = json.loads((project / "metrics/evaluate.json").read_text())
    assert list(metrics) == ["arms", "gain"]
    assert list(metrics["arms"]) == ["baseline", "cutmix", "diffmix", "diffmix-cutmix"]
    assert set(metrics["arms"]["diffmix"]["waterbird"]["groups"]) == {
        "waterbird_water", "waterbird_land", "landbird_land", "landbird_water",
    }  # fmt: skip
    assert set(metrics["gain"]["diffmix"]) == {"top1", "top1_ci", "waterbird_worst", "waterbird_worst_ci"}
    assert "NaN" not in (project / "metrics/evaluate.json").read_text()


def test_nothing_runs_twice(project):
    assert ran(run(project, "dvc", "repro")) == set()


def test_a_change_of_gamma_reruns_the_synthetic_arms_alone_and_metrics_diff_shows_it(project):
    output = run(project, "dvc", "exp", "run", "-S", "synth.gamma=3.0")
    assert ran(output) == GAMMA_RERUNS
    changes = json.loads(run(project, "dvc", "metrics", "diff", "--json"))
    assert set(changes) >= {"metrics/train/diffmix.json", "metrics/train/diffmix-cutmix.json"}
    assert not {"metrics/train/baseline.json", "metrics/train/cutmix.json", "metrics/filter.json"} & set(changes)
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout")


def test_a_change_of_strength_leaves_the_generators_training_and_the_real_arms_alone(project):
    output = run(project, "dvc", "exp", "run", "-S", "synth.strength=[0.7]")
    assert ran(output) == {
        "check", "method", "plan", "synthesize", "filter", "assess", "attention", "train@diffmix",
        "train@diffmix-cutmix", "evaluate", "report",
    }  # fmt: skip
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout")


def test_another_methods_name_reruns_what_differs_and_no_real_arm(project):
    """Diff-Aug shares Diff-Mix's fine-tuned model; Real-filtering shares nothing, and is refused a learned token."""
    output = run(project, "dvc", "exp", "run", "-S", "method=diff-aug")
    assert {"method", "plan", "synthesize"} <= ran(output)
    assert not {"finetune", "train_real@baseline", "train_real@cutmix"} & ran(output)
    output = run(project, "dvc", "exp", "run", "-S", "method=real-filtering")
    assert {"finetune", "plan", "synthesize", "filter"} <= ran(output)
    line = run(project, "dvc", "exp", "run", "-S", "method=real-mix", "-S", "finetune.strategy=ti", status=255)
    assert "params.yaml: real-mix does not go with finetune.strategy ti" in line
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout")


def test_switching_an_arms_option_reruns_that_arm_alone(project):
    output = run(project, "dvc", "exp", "run", "-S", "arms.real.cutmix.mix=mixup")
    assert ran(output) == {"check", "train_real@cutmix", "evaluate", "report"}
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout")


def clean(project: Path) -> bool:
    return run(project, "git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_temporary_experiment_reruns_the_same_stages_and_leaves_the_workspace_alone(project):
    said = run(project, "dvc", "exp", "run", "--temp", "--name", "temporary", "-S", "synth.gamma=3.0")
    assert ran(said) == GAMMA_RERUNS
    assert clean(project)
    assert shown_gammas(project)["temporary"] == 3.0


@pytest.mark.slow
def test_a_queued_experiment_is_shown_compared_and_promoted_to_a_branch(project):
    run(project, "dvc", "exp", "run", "--queue", "--name", "queued", "-S", "synth.gamma=0.3")
    run(project, "dvc", "queue", "start", "--jobs", "1")
    while "Success" not in (status := run(project, "dvc", "queue", "status")):
        assert "Failed" not in status, run(project, "dvc", "queue", "logs", "queued")
        time.sleep(2)
    assert ran(run(project, "dvc", "queue", "logs", "queued")) == GAMMA_RERUNS
    assert clean(project)
    assert shown_gammas(project)["queued"] == 0.3
    changes = json.loads(run(project, "dvc", "metrics", "diff", "--json", "HEAD", "queued"))
    assert "metrics/train/diffmix.json" in changes
    assert not {"metrics/train/baseline.json", "metrics/train/cutmix.json", "metrics/filter.json"} & set(changes)
    run(project, "dvc", "exp", "branch", "queued", "smaller-gamma")
    assert "gamma: 0.3" in run(project, "git", "show", "smaller-gamma:params.yaml")
    assert ran(run(project, "dvc", "repro", "--dry")) == set()


def shown_gammas(project: Path) -> dict[str, float]:
    """What `dvc exp show` lists, by the experiment's name, of those that have metrics."""
    found = {}
    for commit in json.loads(run(project, "dvc", "exp", "show", "--json")):
        for experiment in commit["experiments"] or []:
            for revision in experiment["revs"]:
                data = revision["data"]
                assert data["metrics"]["metrics/evaluate.json"]["data"]["arms"]["diffmix"]["top1"] >= 0
                found[revision["name"]] = data["params"]["params.yaml"]["data"]["synth"]["gamma"]
    return found


def test_a_bad_value_stops_before_anything_runs_and_results_stay_restorable(project):
    params = project / "params.yaml"
    good = params.read_text()
    params.write_text(good.replace("strength: null", "strength: [0.5, 1.7]"))
    output = run(project, "dvc", "repro", status=255)
    assert "params.yaml: synth.strength.1: input should be less than or equal to 1 (it is 1.7)" in output
    assert ran(output) == {"check"}
    params.write_text(good)
    run(project, "dvc", "checkout")
    assert ran(run(project, "dvc", "repro")) <= {"check"}


NAMES = ["a_b c", "d\"e'f", "Ünï, <b>çödé", "NA"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of twelve images in classes with awkward names, and the project set up for it."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for split, count in (("train", 2), ("test", 1)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(rng.integers(0, 256, (40, 30, 3), np.uint8)).save(root / split / name / f"{number}.jpg")
    folder = copy_project(tmp_path_factory.mktemp("project"), {})
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["data"] |= {"name": "folder", "metaclass": "thing", "folder": {"path": str(root), "test_share": 0.3}}
    params["finetune"]["strategy"] = "db"  # prompts with the classes' own names
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


def test_awkward_class_names_go_through_the_whole_path(photos):
    run(photos, "dvc", "repro")
    per_class = pd.read_csv(photos / "metrics/per_class.csv", keep_default_na=False)
    assert sorted(per_class["class"]) == sorted(NAMES)
    page = (photos / "metrics/report.html").read_text()
    assert "Ünï, &lt;b&gt;çödé" in page
    assert "<b>çödé" not in page
    assert "waterbird" not in json.loads((photos / "metrics/evaluate.json").read_text())["arms"]["baseline"]


def test_an_unreadable_photo_stops_with_its_name_and_results_stay_restorable(photos):
    path = Path(yaml.safe_load((photos / "params.yaml").read_text())["data"]["folder"]["path"])
    broken = path / "train" / NAMES[0] / "9.jpg"
    broken.write_bytes(b"")
    output = run(photos, "dvc", "repro", "-f", "download", status=255)
    assert f"{broken}: " in output
    assert "Traceback" not in output
    run(photos, "dvc", "checkout")
    assert (photos / "data/download/train/manifest.csv").is_file()

"""A tiny preset through the real `dvc repro` in a temporary copy, then `dvc exp run` and `dvc metrics diff`."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.closure import ROOT

# what git would see, so that the copies are commits of nobody's machine
GIT = {f"GIT_{role}_{what}": "test@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def run(folder: Path, *command: str, status: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, env=os.environ | GIT, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def ran(output: str) -> set[str]:
    return set(re.findall(r"Running stage '(.+?)'", output))


def copy_project(folder: Path, preset: str) -> Path:
    """The files that git keeps or would keep, with another preset and no lock, committed."""
    for name in run(ROOT, "git", "ls-files", "-co", "--exclude-standard", "-z").split("\0"):
        if name and (ROOT / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    shutil.copy(ROOT / preset, folder / "params.yaml")
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "tiny")
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("project"), "tests/tiny.yaml")
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")
    return folder


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
    assert ran(output) == {"check", "train@diffmix", "train@diffmix-cutmix", "evaluate", "report"}
    changes = json.loads(run(project, "dvc", "metrics", "diff", "--json"))
    assert set(changes) >= {"metrics/train/diffmix.json", "metrics/train/diffmix-cutmix.json"}
    assert not {"metrics/train/baseline.json", "metrics/train/cutmix.json", "metrics/filter.json"} & set(changes)
    run(project, "git", "checkout", "-q", ".")
    run(project, "dvc", "checkout")


def test_a_bad_value_stops_before_anything_runs_and_results_stay_restorable(project):
    params = project / "params.yaml"
    good = params.read_text()
    params.write_text(good.replace("strength: [0.5, 0.7, 0.9]", "strength: [0.5, 1.7]"))
    output = run(project, "dvc", "repro", status=255)
    assert "params.yaml: synth.strength.1: input should be less than or equal to 1 (it is 1.7)" in output
    assert ran(output) == {"check"}
    params.write_text(good)
    run(project, "dvc", "checkout")
    assert ran(run(project, "dvc", "repro")) <= {"check"}

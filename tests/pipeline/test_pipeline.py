"""A tiny preset through the real `dvc repro`, then `dvc exp run` and `dvc metrics diff`.

All of it in a temporary copy of the project.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_project import copy_project, dvc, ran, run


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    # enough training for gamma to move an accuracy
    folder = copy_project(
        tmp_path_factory.mktemp("project"), {"train.epochs": 12, "train.batch": 8}
    )
    dvc(folder, "repro")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "results")

    return folder


def restore(project: Path) -> None:
    """Go back to the commit."""
    run(project, "git", "checkout", "-q", ".")
    dvc(project, "checkout")


GAMMA_RERUNS = {"check", "train@diffmix", "train@diffmix-cutmix", "evaluate", "report"}
GAMMA_CHANGES = {"metrics/headline.json"}  # and no measure of the images


def test_the_pipeline_writes_the_contracts_metrics(project):
    metrics = json.loads((project / "metrics/evaluate.json").read_text())

    assert list(metrics) == ["arms", "gain"]
    assert list(metrics["arms"]) == ["baseline", "cutmix", "diffmix", "diffmix-cutmix"]
    assert set(metrics["arms"]["diffmix"]["waterbird"]["groups"]) == {
        "waterbird_water", "waterbird_land", "landbird_land", "landbird_water",
    }  # fmt: skip
    gain = metrics["gain"]["diffmix"]
    assert {"top1", "top1_ci", "waterbird_worst", "waterbird_worst_ci"} <= set(gain)
    assert "NaN" not in (project / "metrics/evaluate.json").read_text()


def test_dvc_lists_the_headline_and_no_more(project):
    shown = dvc(project, "metrics", "show", "--json")
    assert "failed" not in shown

    files = json.loads(shown)[""]["data"]
    numbers = {name: count_numbers(file["data"]) for name, file in files.items()}
    assert set(numbers) == {f"metrics/{name}.json" for name in ("filter", "fidelity", "headline")}
    assert sum(numbers.values()) <= 30


def count_numbers(tree: Any) -> int:
    return sum(map(count_numbers, tree.values())) if isinstance(tree, dict) else 1


def test_nothing_runs_twice(project):
    assert ran(dvc(project, "repro")) == set()


def test_a_change_of_gamma_reruns_the_synthetic_arms_alone_and_metrics_diff_shows_it(project):
    output = dvc(project, "exp", "run", "-S", "synth.gamma=3.0")
    assert ran(output) == GAMMA_RERUNS

    changes = set(json.loads(dvc(project, "metrics", "diff", "--json")))
    assert changes == GAMMA_CHANGES

    restore(project)


def test_a_change_of_strength_leaves_the_generators_training_and_the_real_arms_alone(project):
    output = dvc(project, "exp", "run", "-S", "synth.strength=[0.7]")

    assert ran(output) == {
        "check", "method", "plan", "synthesize", "filter", "assess", "attention", "train@diffmix",
        "train@diffmix-cutmix", "evaluate", "report",
    }  # fmt: skip
    restore(project)


@pytest.mark.slow
def test_another_methods_name_reruns_what_differs_and_no_real_arm(project):
    """Diff-Aug shares Diff-Mix's fine-tuned model, Real-filtering shares nothing.

    Real-Mix is refused a learned token.
    """
    output = dvc(project, "exp", "run", "-S", "method=diff-aug")
    assert {"method", "plan", "synthesize"} <= ran(output)
    assert not {"finetune", "train_real@baseline", "train_real@cutmix"} & ran(output)
    restore(project)

    output = dvc(project, "exp", "run", "-S", "method=real-filtering")
    assert {"finetune", "plan", "synthesize", "filter"} <= ran(output)
    # Otherwise DVC's stash may take a changed metric of equal size for unchanged, and git keeps it.
    restore(project)

    options = ("-S", "method=real-mix", "-S", "finetune.strategy=ti")
    line = dvc(project, "exp", "run", *options, status=255)
    assert "params.yaml: real-mix does not go with finetune.strategy ti" in line
    restore(project)


def test_switching_an_arms_option_reruns_that_arm_alone(project):
    output = dvc(project, "exp", "run", "-S", "arms.real.cutmix.mix=mixup")
    assert ran(output) == {"check", "train_real@cutmix", "evaluate", "report"}
    restore(project)


def clean(project: Path) -> bool:
    return run(project, "git", "status", "--porcelain") == ""


@pytest.mark.slow
def test_a_temporary_experiment_reruns_the_same_stages_and_leaves_the_workspace_alone(project):
    output = dvc(project, "exp", "run", "--temp", "--name", "temporary", "-S", "synth.gamma=3.0")
    assert ran(output) == GAMMA_RERUNS
    assert clean(project)
    assert shown_gammas(project)["temporary"] == 3.0


@pytest.mark.slow
def test_a_queued_experiment_is_shown_compared_and_promoted_to_a_branch(project):
    dvc(project, "exp", "run", "--queue", "--name", "queued", "-S", "synth.gamma=0.3")
    dvc(project, "queue", "start", "--jobs", "1")
    while "Success" not in (status := dvc(project, "queue", "status")):
        assert "Failed" not in status, dvc(project, "queue", "logs", "queued")
        time.sleep(2)

    assert ran(dvc(project, "queue", "logs", "queued")) == GAMMA_RERUNS
    assert clean(project)
    assert shown_gammas(project)["queued"] == 0.3

    changes = set(json.loads(dvc(project, "metrics", "diff", "--json", "HEAD", "queued")))
    assert changes == GAMMA_CHANGES

    dvc(project, "exp", "branch", "queued", "smaller-gamma")
    assert "gamma: 0.3" in run(project, "git", "show", "smaller-gamma:params.yaml")
    assert ran(dvc(project, "repro", "--dry")) == set()


def shown_gammas(project: Path) -> dict[str, float]:
    """The gammas that `dvc exp show` lists, by the experiments' names; all must have metrics."""
    found = {}

    for commit in json.loads(dvc(project, "exp", "show", "--json")):
        for experiment in commit["experiments"] or []:
            for revision in experiment["revs"]:
                data = revision["data"]
                metrics = data["metrics"]["metrics/headline.json"]["data"]
                assert metrics["arms"]["diffmix"]["top1"] >= 0
                found[revision["name"]] = data["params"]["params.yaml"]["data"]["synth"]["gamma"]

    return found


def test_a_bad_value_stops_before_anything_runs_and_results_stay_restorable(project):
    params = project / "params.yaml"
    good = params.read_text()
    params.write_text(good.replace("strength: null", "strength: [0.5, 1.7]"))

    output = dvc(project, "repro", status=255)
    reason = "input should be less than or equal to 1 (it is 1.7)"
    assert f"params.yaml: synth.strength.1: {reason}" in output
    assert ran(output) == {"check"}

    params.write_text(good)
    dvc(project, "checkout")
    assert ran(dvc(project, "repro")) <= {"check"}

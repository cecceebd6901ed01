"""Edits of a stage's inputs at random moments: dvc.lock names what the outputs were made from.

DVC hashes a stage's inputs when its command has ended, so an edit that comes in between must end
the stage.
"""

import random
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from tests.support.small_project import contents, copy_project, dvc, start

pytestmark = pytest.mark.slow
MOMENTS = 10  # of each edit
SMALL = {"train.epochs": 60, "synth.multiplier": 3.0}
REFUSAL = r"is of neither, and is not recorded; run again|while .* was loading it; run again"


class Edit(NamedTuple):
    """A change of one input of a stage, and its outputs."""

    stage: str
    path: str
    change: Callable[[str], str]
    outs: tuple[str, ...]


def replace(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


EDITS = {
    "a parameter of subsample": Edit(
        "subsample", "params.yaml", replace("seed: 0", "seed: 7"), ("data/subsample",)
    ),
    "a parameter of train": Edit(
        "train_real@baseline", "params.yaml", replace("epochs: 60", "epochs: 40"),
        ("data/train/baseline",),
    ),
    "a table": Edit(
        "plan", "data/subsample/manifest.csv",
        lambda text: "".join(text.splitlines(keepends=True)[:-1]), ("data/plan",),
    ),
    "code": Edit(
        "plan", "stages/plan.py", replace("def make_plan(", "STREAM = 99\n\n\ndef make_plan("),
        ("data/plan",),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("edited"), SMALL)
    dvc(folder, "repro", "plan", "train_real@baseline")
    return folder


def run(project: Path, stage: str):
    return start(project, "dvc", "repro", "--single-item", "--force", "--no-run-cache", stage)


def recorded(project: Path, stage: str) -> str:
    """What dvc.lock says of the stage's inputs."""
    entry = yaml.safe_load((project / "dvc.lock").read_text())["stages"][stage]
    return yaml.safe_dump([entry["deps"], entry.get("params")])


def outputs(project: Path, edit: Edit) -> list[dict[str, bytes]]:
    return [contents(project / out) for out in edit.outs]


@pytest.mark.parametrize("name", EDITS)
def test_the_lock_never_names_what_the_outputs_were_not_made_from(project, name):
    edit = EDITS[name]
    path = project / edit.path
    before = path.read_text()
    after = edit.change(before)

    truth = {}
    for text in (after, before):
        path.write_text(text)
        began = time.monotonic()
        run(project, edit.stage).communicate()
        seconds = time.monotonic() - began
        truth[recorded(project, edit.stage)] = outputs(project, edit)
    assert len(truth) == 2, "the edit is none of an input"

    chance = random.Random(name)
    refused = 0
    for _ in range(MOMENTS):
        process = run(project, edit.stage)
        time.sleep(chance.uniform(0.1, 1.0) * seconds)
        path.write_text(after)
        printed = process.communicate()[0]

        if process.returncode == 0:
            assert outputs(project, edit) == truth[recorded(project, edit.stage)]
        else:
            assert re.search(REFUSAL, printed), printed
            refused += 1

        path.write_text(before)
        run(project, edit.stage).communicate()

    # the others take a moment, which an edit seldom meets
    assert refused > 0 or edit.stage != "train_real@baseline"

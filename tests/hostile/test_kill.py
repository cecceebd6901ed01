"""kill -9, of a stage and of DVC, at random moments.

The resumed run's outputs equal an unbroken run's to the bit.
"""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest
import torch

from stages.shared.tables import shard_name
from tests.support.small_project import (
    MANY_IMAGES,
    contents,
    copy_project,
    dvc,
    finish,
    start,
    write_params,
)

pytestmark = pytest.mark.slow
# By the stage's DVC name: its command and its output.
STAGES = {
    "finetune": (("stages.finetune",), "data/finetune"),
    "synthesize": (("stages.synthesize",), "data/synthesize"),
    "train@diffmix": (("stages.train", "synthetic", "diffmix"), "data/train/diffmix"),
}
KILLS = 10  # of each victim, for each stage
REFUSED = "is at work; wait for it, or end it first"
OFTEN = {"DIFFMIX_CHECKPOINT": "0"}  # at every step


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = copy_project(tmp_path_factory.mktemp("killed"), MANY_IMAGES)
    dvc(folder, "repro", "train@diffmix")
    return folder


@pytest.fixture(scope="module")
def unbroken(project) -> dict[str, dict[str, bytes]]:
    return {stage: contents(project / output) for stage, (_, output) in STAGES.items()}


def run_time(project: Path, stage: str) -> float:
    """Seconds of an undisturbed run."""
    began = time.monotonic()
    finish(start(project, *STAGES[stage][0], **OFTEN))
    return time.monotonic() - began


def kill(process) -> None:
    """The process alone, not what it has started: DVC's stage lives on, as it would."""
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def finished_shards(project: Path) -> dict[str, int]:
    """The shards that an interrupted run has left whole, with their inodes.

    A shard that is made anew has another inode.
    """
    parts = (project / ".work/synthesize").glob("*/shard-*.tar.csv")
    shards = [part.parent / "result" / part.name.removesuffix(".csv") for part in parts]
    return {shard.name: shard.stat().st_ino for shard in shards if shard.exists()}


def steps_done(project: Path) -> int:
    """How many steps of fine-tuning the last checkpoint holds."""
    paths = list((project / ".work/finetune").glob("*/checkpoint.pt"))
    return len(torch.load(paths[0], weights_only=True)["losses"]) if paths else 0


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed_goes_on_to_the_same_bits(project, unbroken, stage):
    command, output = STAGES[stage]
    seconds = run_time(project, stage)
    chance = random.Random(0)

    for _ in range(KILLS):
        victim = start(project, *command, **OFTEN)
        time.sleep(chance.uniform(0.3, 0.95) * seconds)
        kill(victim)
        shards = finished_shards(project)
        steps = steps_done(project)

        printed = finish(start(project, *command, **OFTEN))

        assert contents(project / output) == unbroken[stage]
        if stage == "synthesize":
            assert {name: (project / output / name).stat().st_ino for name in shards} == shards
        if stage == "finetune":
            # The progress bar begins where the first run had stopped.
            assert f"{steps}/{MANY_IMAGES['finetune.steps']} [" in printed


@pytest.mark.parametrize("stage", STAGES)
def test_dvc_that_is_killed_leaves_a_stage_that_no_second_run_meets(project, unbroken, stage):
    """The orphan goes on; a second run stops with one line.

    Where the orphan has ended, the second run does the work.
    """
    output = STAGES[stage][1]
    chance = random.Random(1)
    seconds = run_time(project, stage) + 4
    forced = ("dvc", "repro", "--single-item", "--force")

    for _ in range(KILLS):
        shutil.rmtree(project / output)
        victim = start(project, *forced, "--no-run-cache", stage, **OFTEN)
        time.sleep(chance.uniform(0.3, 0.95) * seconds)
        kill(victim)

        second = start(project, *forced, stage, **OFTEN)
        printed = second.communicate()[0]
        assert second.returncode == 0 or REFUSED in printed, printed
        assert "Traceback" not in printed

        while running(project):
            time.sleep(0.2)
        dvc(project, "repro", "--single-item", stage)
        assert contents(project / output) == unbroken[stage]


def running(project: Path) -> bool:
    """Whether a stage is at work in the project."""
    for process in psutil.process_iter(["cwd", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.info["cwd"] == str(project) and "stages." in command:
            return True

    return False


def test_no_old_shard_gets_into_another_strength(project, unbroken):
    """A run is killed when a shard is done; then strength, and with it the plan, is changed."""
    victim = start(project, "stages.synthesize", **OFTEN)
    while shard_name(0) not in finished_shards(project):
        assert victim.poll() is None, victim.communicate()[0]
        time.sleep(0.05)
    kill(victim)

    write_params(project, MANY_IMAGES | {"synth.strength": [0.9]})
    dvc(project, "repro", "synthesize")
    after_kill = contents(project / "data/synthesize")

    shutil.rmtree(project / ".work")
    dvc(project, "repro", "--single-item", "--force", "--no-run-cache", "synthesize")
    assert contents(project / "data/synthesize") == after_kill
    assert after_kill[shard_name(0)] != unbroken["synthesize"][shard_name(0)]

    write_params(project, MANY_IMAGES)
    dvc(project, "repro", "synthesize")
    assert contents(project / "data/synthesize") == unbroken["synthesize"]

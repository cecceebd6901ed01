"""A copy of the project with a preset changed, for tests that run stages as processes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from experiments.commands import command_environment
from tests.support.closure import ROOT

# The author of the copies' commits, so that no machine's own git settings matter.
GIT = {
    "GIT_AUTHOR_NAME": "test@example.org",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "test@example.org",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}
# Three shards of images, made in seconds: 16 pixels, one or two steps, no guidance.
MANY_IMAGES: dict[str, Any] = {
    "synth.multiplier": 150, "synth.steps": 2, "synth.strength": [0.5, 1.0],
    "synth.guidance_scale": 1.0, "synth.resolution": 16, "finetune.resolution": 16,
    "finetune.steps": 60, "finetune.batch": 4, "train.epochs": 12, "train.trials": 3,
}  # fmt: skip


def copy_project(
    folder: Path, changes: dict[str, Any], preset: str = "tests/support/tiny.yaml"
) -> Path:
    """Copy the files that git keeps or would keep, without results and dvc.lock, and commit them.

    The preset's values are changed by dotted path.
    """
    listing = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)

    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("metrics/") and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    write_params(folder, changes, preset)

    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "small"]):
        subprocess.run(["git", *words], cwd=folder, env=os.environ | GIT, check=True)

    return folder


def write_params(
    folder: Path, changes: dict[str, Any], preset: str = "tests/support/tiny.yaml"
) -> None:
    """Write the preset as params.yaml, with its values changed by dotted path."""
    tree = yaml.safe_load((ROOT / preset).read_text())

    for path, value in changes.items():
        *parents, leaf = path.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[leaf] = value

    (folder / "params.yaml").write_text(yaml.safe_dump(tree))


def environment() -> dict[str, str]:
    """A commit's author, and this interpreter's commands before all others.

    DVC's stages call `python`.
    """
    return command_environment() | GIT


def run(folder: Path, *command: str, status: int = 0, **settings: str) -> str:
    """Run a command to its end; returns what it prints."""
    done = subprocess.run(
        command, cwd=folder, env=environment() | settings, capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr

    return done.stdout + done.stderr


def dvc(folder: Path, *words: str, status: int = 0) -> str:
    return run(folder, sys.executable, "-m", "dvc", *words, status=status)


def ran(output: str) -> set[str]:
    """The stages that DVC has run, by its output."""
    return set(re.findall(r"Running stage '(.+?)'", output))


def start(folder: Path, *words: str, **settings: str) -> subprocess.Popen:
    """`python -m WORDS` in the background, in a process group of its own, with runtime settings."""
    return subprocess.Popen(
        [sys.executable, "-m", *words], cwd=folder, env=environment() | settings,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def finish(process: subprocess.Popen, status: int = 0) -> str:
    """Wait for the process to end; returns what it has printed."""
    output = process.communicate()[0]
    assert process.returncode == status, output
    return output


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its path in it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}

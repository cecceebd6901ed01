"""dvc and git, run as commands."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

from stages.shared.errors import BadInput


def dvc(*words: str, status: int | None = 0) -> str:
    """Run a dvc command to its end and return what it prints.

    Raises BadInput with its last words where it fails: where it exits with another status than
    `status`; None allows any. It runs in a session of its own: Ctrl-C must not hit DVC while it has
    the workspace's changes stashed away.
    """
    command = [sys.executable, "-m", "dvc", *words]

    # A file, because the workers that DVC leaves behind would hold a pipe open.
    with TemporaryFile("w+") as printed:
        done = subprocess.run(
            command,
            env=command_environment(),
            start_new_session=True,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        printed.seek(0)
        text = printed.read()

    if status is not None and done.returncode != status:
        last = " ".join(text.split()[-60:])
        raise BadInput(f"dvc {' '.join(words[:2])}: failed ({last}); fix that and call again")

    return text


def command_environment() -> dict[str, str]:
    """This process's environment, with this Python's own programs first in PATH.

    The queue calls `dvc`, and stages call `python`.
    """
    programs = str(Path(sys.executable).parent)
    return os.environ | {"PATH": os.pathsep.join([programs, os.environ.get("PATH", "")])}


def git(*words: str) -> str:
    """Run a git command and return what it prints; raises CalledProcessError where it fails."""
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout

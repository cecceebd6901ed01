"""dvc and git, run as commands."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile

from stages.shared.errors import BadInput


def dvc(*words: str, status: int | None = 0) -> str:
    """Run a dvc command to its end and return what it says; raises BadInput with its last words where it fails.

    In a session of its own: Ctrl-C must not hit DVC while it has the workspace's changes stashed away.
    """
    command = [sys.executable, "-m", "dvc", *words]
    with TemporaryFile(
        "w+"
    ) as said:  # no pipe: the workers that DVC leaves behind would hold it open
        done = subprocess.run(
            command,
            env=command_environment(),
            start_new_session=True,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        said.seek(0)
        text = said.read()
    if status is not None and done.returncode != status:
        last = " ".join(text.split()[-60:])
        raise BadInput(f"dvc {' '.join(words[:2])}: failed ({last}); fix that and call again")
    return text


def command_environment() -> dict[str, str]:
    """This process's, with this Python's own programs first: the queue calls `dvc`, and stages call `python`."""
    return os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    }


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout

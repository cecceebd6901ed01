"""dvc.lock, read as data."""

from pathlib import Path
from typing import Any

import yaml

from stages.shared.errors import BadInput

LOCK = Path("dvc.lock")
RERUN = "`dvc repro`, then commit dvc.lock and metrics/ with it"
Locked = dict[str, dict[str, Any]]  # its stages, by name


def read_lock(path: Path = LOCK) -> Locked:
    """The locked stages; raises BadInput where there is no lock."""
    if not path.is_file():
        raise BadInput(f"{path}: is not there; {RERUN}")

    return yaml.safe_load(path.read_text())["stages"]


def hashes(locked: dict[str, Any], kind: str) -> dict[str, str]:
    """The md5 of a locked stage's `outs` or `deps`, by path."""
    return {entry["path"]: entry.get("md5", "") for entry in locked.get(kind, [])}

"""Work in progress: a folder per result, outside DVC's outputs, so that an interrupted stage goes on.

`.work/<stage>/<fingerprint>/`, where the fingerprint covers parameters, inputs, code and library versions: a changed
strength or seed never meets an old shard.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from stages.shared.errors import BadInput
from stages.shared.params import Section

LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "peft")


def fingerprint(params: Section, inputs: list[Path], *settings: object) -> str:
    """A hash of parameters, inputs (folders with all their files; a hub id, no path, counts by its parameter), runtime
    settings that move a result's last bits, the code and the libraries."""
    digest = hashlib.sha256(json.dumps(params.model_dump(mode="json"), sort_keys=True).encode())
    for path in _expand(inputs) + _loaded_code():
        with path.open("rb") as file:
            digest.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    digest.update(" ".join([*map(version, LIBRARIES), *map(str, settings)]).encode())
    return digest.hexdigest()[:16]


def _expand(paths: list[Path]) -> list[Path]:
    return [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()]


def _loaded_code() -> list[Path]:
    """The files of this package that the process has imported: the stage and its shared modules."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    names = {str(module.__file__) for name, module in sys.modules.items() if name.startswith("stages.")}
    return sorted(Path(name) for name in names | ({main} if main else set()) if name.endswith(".py"))


@contextmanager
def work_folder(stage: str, mark: str) -> Iterator[Path]:
    """Open (or find again) the work folder, locked against a second run; cleared after success, as older work is.

    Raises BadInput when another process holds it. The kernel drops the lock with the process, even on kill -9.
    """
    home = Path(os.environ.get("DVC_ROOT", ".")) / ".work" / stage
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{home}: another run of {stage} is at work; wait for it, or end it first") from None
        for stale in home.iterdir():
            if stale.is_dir() and stale.name != mark:
                shutil.rmtree(stale)
        folder = home / mark
        folder.mkdir(exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)  # done: a later run of the same starts afresh


def publish(folder: Path, output: Path) -> None:
    """Move finished work into the stage's output folder."""
    if output.exists():
        shutil.rmtree(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(output)

"""Work in progress: a folder for each result, so that an interrupted stage goes on.

It lies outside DVC's outputs, as `.work/<stage>/<key>/`. The key covers parameters, inputs, code
and library versions: a changed strength or seed never meets an old shard.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path

from stages.shared.errors import BadInput
from stages.shared.hashes import digest
from stages.shared.params import Section
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.inputs import check_inputs

KEPT_SECONDS = 7 * 24 * 3600  # of work that was broken off
UNWRITABLE = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)))
INTERRUPTED = 130  # the shell's status of a process that Ctrl-C has ended
# pillow makes the bytes of images, numpy draws their order
LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "peft", "pillow", "numpy")


def work_key(params: Section, inputs: list[Path], *settings: object) -> str:
    """A hash of all that determines a result.

    That is: parameters, inputs (of a folder all files), runtime settings that move a result's last
    bits, the code and the libraries. Raises FileNotFoundError for an input that is not there.
    """
    parts = [json.dumps(params.model_dump(mode="json"), sort_keys=True)]
    parts += [f"{path.name} {digest(path)}" for path in [*_list_files(inputs), *_loaded_code()]]
    parts += [*map(version, LIBRARIES), *map(str, settings)]

    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _list_files(paths: list[Path]) -> list[Path]:
    """The files themselves, and those of the folders."""
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [file for file in found if not file.is_dir()]
    return files


def model_folder(model: Pretrained | None) -> list[Path]:
    """The folder of a pretrained model, as an input of `work_key`.

    Of a hub's model there is none: its parameters name its commit.
    """
    return [Path(model.id)] if model is not None and os.path.isdir(model.id) else []


def _loaded_code() -> list[Path]:
    """The files of this package that the process has imported: the stage and its shared modules."""
    main = getattr(sys.modules["__main__"], "__file__", None)
    names = {
        str(module.__file__) for name, module in sys.modules.items() if name.startswith("stages.")
    }
    if main:
        names.add(main)

    return sorted(Path(name) for name in names if name.endswith(".py"))


@contextmanager
def work_folder(stage: str, key: str) -> Iterator[Path]:
    """Open (or find again) the work folder of a key, locked against a second run.

    A run locks the stage in its own workspace, whose outputs it will replace, and the folder, which
    experiments in other workspaces share by DVC_ROOT. The kernel drops the locks with the process,
    even on kill -9.

    The folder is removed after success. Work that was broken off stays for a week, whatever runs in
    between. Raises BadInput when another process holds a lock, and where the disk takes nothing
    more; ends the process on Ctrl-C.
    """
    folder = folder_of(stage, key)
    with (
        _explained(stage, folder),
        _locked(Path(".work") / stage / "lock", stage),
        _locked(folder.with_suffix(".lock"), stage),
    ):
        _clear_old(stage)
        folder.mkdir(exist_ok=True)

        yield folder

        shutil.rmtree(folder, ignore_errors=True)  # done: a later run of the same starts afresh


def folder_of(stage: str, key: str) -> Path:
    return Path(os.environ.get("DVC_ROOT", ".")) / ".work" / stage / key


@contextmanager
def _explained(stage: str, folder: Path) -> Iterator[None]:
    """Say in one line what broke the work off: Ctrl-C, or a disk that is full or read-only.

    One line of a process alone; a launcher of several adds lines of its own. Libraries raise a
    disk's errors as any type, with the system's own words.
    """
    try:
        yield
    except KeyboardInterrupt:
        print(f"{stage}: interrupted; run again to go on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        reason = next((words for words in UNWRITABLE if words.lower() in str(error).lower()), None)
        if reason is None:
            raise

        where = getattr(error, "filename", None) or folder
        raise BadInput(
            f"{where}: {reason.lower()}; fix that and run again: what is finished is kept"
        ) from None


@contextmanager
def _locked(path: Path, stage: str) -> Iterator[None]:
    """Hold the lock file; raises BadInput where another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)

    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"{path}: another run of {stage} is at work; wait for it, or end it first"
            ) from None

        yield


def _clear_old(stage: str) -> None:
    """Remove work that nobody has gone on with for a week; what another run holds stays.

    Of train/diffmix that of all arms: nothing runs any more of an arm that was removed or renamed.
    Lock files stay: one that is removed while it is opened would lock nothing.
    """
    own = folder_of(stage, "")
    siblings = _subfolders(own.parent) if "/" in stage else [own]

    for folder in [folder for sibling in siblings for folder in _subfolders(sibling)]:
        with suppress(BadInput), _locked(folder.with_suffix(".lock"), stage):
            if time.time() - _last_change(folder) > KEPT_SECONDS:
                shutil.rmtree(folder)


def _subfolders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()]


def _last_change(folder: Path) -> float:
    """Seconds since the epoch; now, for a folder that another run has just removed."""
    with suppress(FileNotFoundError):
        return max(path.stat().st_mtime for path in [folder, *folder.iterdir()])

    return time.time()


def publish(folder: Path, output: Path) -> None:
    """Move finished work into the stage's output folder.

    Raises BadInput where an input has changed since the stage began; the work is kept then, for the
    inputs that it was made from.
    """
    check_inputs()
    if output.exists():
        shutil.rmtree(output)

    output.parent.mkdir(parents=True, exist_ok=True)
    folder.replace(output)

"""A stage's inputs must be, when it ends, what they were when it began.

DVC hashes code, data and parameters after a stage's command (its issue 11058): what is edited
meanwhile would be recorded as what the outputs were made from, and the run cache would serve them
to it ever after. So a stage that DVC runs notes all that dvc.yaml says it depends on, and compares
before it publishes. A difference ends it in one line, and DVC records nothing.
"""

import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from stages import LOADED_AT
from stages.shared.errors import BadInput
from stages.shared.hashes import digest
from stages.shared.params import PATH, lookup, read
from stages.shared.watching.seconds import note_seconds

PIPELINE = Path("dvc.yaml")
STAGE = "DVC_STAGE"  # how DVC tells a command which stage it is
HASHED = 64 * 2**20  # bytes of a stage's inputs, the smallest files first; see is_changed
NOWHERE = "is not there"


class File(NamedTuple):
    """A file as it was, with its hash where that was taken."""

    size: int
    written: int  # ns
    changed: int  # ns; also of its name and rights
    number: int  # the inode
    content: str | None = None


class Stage(NamedTuple):
    """An entry of dvc.yaml, its templates filled in."""

    name: str
    deps: list[Path]
    leaves: list[str]
    outs: list[Path]


class Inputs(NamedTuple):
    """All that a stage depends on."""

    stage: Stage
    values: dict[str, Any]  # of parameters, by dotted path
    files: dict[Path, File]


_noted: Inputs | None = None  # when this process began, where DVC runs it


def run(main: Callable[[], None]) -> None:
    """Run a stage's `main`; where DVC runs it, refuse inputs that have changed meanwhile.

    Raises BadInput, naming the first of them, after removing what the stage has written.
    """
    global _noted
    _noted = note(read_stage(os.environ[STAGE])) if os.environ.get(STAGE) else None
    main()
    if _noted is None:
        return

    try:
        check_inputs()
    except BadInput:
        for out in _noted.stage.outs:
            remove(out)
        raise

    with suppress(OSError):  # the output is whole: a disk that has become full does not spoil it
        note_seconds(_noted.stage.name, (time.time_ns() - LOADED_AT) / 1e9)

    # DVC reads the inputs when this process has ended: the sooner, the less can change before
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def check_inputs() -> None:
    """Compare the inputs with what was noted when the stage began, where DVC runs it.

    Whatever publishes a result calls this first. Raises BadInput where one differs.
    """
    if _noted is None:
        return

    for change in changes(_noted):
        raise BadInput(
            f"{change} while {_noted.stage.name} was running: its result is of neither, and is "
            "not recorded; run again"
        )


def read_stage(name: str) -> Stage:
    """The stage's entry in dvc.yaml; name: as DVC says it, train@diffmix."""
    tree = read()
    body, _, key = name.partition("@")
    entry = yaml.safe_load(PIPELINE.read_text(encoding="utf-8"))["stages"][body]
    entry = entry.get("do", entry)

    def fill(text: str) -> str:
        text = text.replace("${key}", key)
        return re.sub(r"\$\{(.+?)\}", lambda found: str(lookup(tree, found[1])), text)

    outs = [*entry.get("outs", []), *entry.get("metrics", []), *entry.get("plots", [])]
    return Stage(
        name,
        [Path(fill(dep)) for dep in entry.get("deps", [])],
        [fill(leaf) for leaf in entry.get("params", [])],
        [Path(fill(out if isinstance(out, str) else next(iter(out)))) for out in outs],
    )


def note(stage: Stage) -> Inputs:
    """The inputs as they are now.

    Raises BadInput for code that was written while this process was loading it.
    """
    files = dict(sorted(stat_all(stage.deps), key=lambda entry: entry[1].size))
    for path, file in files.items():
        if path.suffix == ".py" and max(file.written, file.changed) > LOADED_AT:
            raise BadInput(f"{path}: was written while {stage.name} was loading it; run again")

    left = HASHED
    for path, file in files.items():
        left -= file.size
        if left < 0:
            break
        files[path] = file._replace(content=content_of(path))

    return Inputs(stage, values_of(stage.leaves), files)


def changes(inputs: Inputs) -> Iterator[str]:
    """What differs now: which input, and how."""
    now = values_of(inputs.stage.leaves)
    for leaf, value in inputs.values.items():
        if now[leaf] != value:
            yield f"{PATH}: {leaf} was {value!r} and has become {now[leaf]!r}"

    files = dict(stat_all(inputs.stage.deps))
    for path in sorted(files.keys() | inputs.files.keys()):
        before = inputs.files.get(path)
        after = files.get(path)
        if before is None:
            yield f"{path}: has appeared"
        elif after is None:
            yield f"{path}: has gone"
        elif is_changed(path, before, after):
            yield f"{path}: has changed"


def is_changed(path: Path, before: File, after: File) -> bool:
    """Whether a file holds something else: by its hash, if anything about the file differs.

    One that was not hashed goes by size and time of writing alone: a hard link, as of a checkout
    that goes on beside, changes the rest, too.
    """
    if before.content is None:
        return (after.size, after.written) != (before.size, before.written)

    return after != before._replace(content=None) and content_of(path) != before.content


def values_of(leaves: list[str]) -> dict[str, Any]:
    tree = read()
    return {leaf: lookup_or(tree, leaf) for leaf in leaves}


def lookup_or(tree: dict[str, Any], leaf: str) -> Any:
    """The value of a parameter; NOWHERE for one that the file lacks."""
    try:
        return lookup(tree, leaf)
    except BadInput:
        return NOWHERE


def stat_all(paths: list[Path]) -> Iterator[tuple[Path, File]]:
    """All files that DVC hashes for these paths; what is not there is left out."""
    for path in paths:
        if not path.is_dir():
            yield from stat_each([path])
        for folder, folders, names in os.walk(path):
            # as .dvcignore
            folders[:] = [name for name in folders if name != "__pycache__"]
            yield from stat_each([Path(folder) / name for name in names])


def stat_each(paths: list[Path]) -> Iterator[tuple[Path, File]]:
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue
        yield path, File(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def content_of(path: Path) -> str | None:
    """The hash of its content; None where it cannot be read."""
    try:
        return digest(path)
    except OSError:
        return None


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

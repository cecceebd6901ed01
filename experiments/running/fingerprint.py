"""What an experiment's result depends on, in eight hexadecimal digits: stages, code, parameters.

Only the stages that the targets need count, so that an edit of the report leaves the experiments
standing. `check` does not count: it looks at every parameter, and its output is always the same. Of
a folder of photos the listing counts.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from stages.shared.errors import BadInput
from stages.shared.hashes import digest
from stages.shared.params import lookup

PIPELINE = Path("dvc.yaml")
WITHOUT_RESULT = {"check"}
DIGITS = 8
Stages = dict[str, dict[str, Any]]


def fingerprint(
    stages: Stages, targets: Iterable[str], params: dict[str, Any], root: Path = Path()
) -> str:
    """The fingerprint of what the targets' stages need.

    That is: these stages' definitions and parameters, the files that no stage makes, and all arms.
    """
    behind = needed(stages, targets)
    definitions = {
        name: {key: stage[key] for key in stage if key != "desc"} for name, stage in behind.items()
    }

    declared = {leaf for stage in behind.values() for leaf in stage.get("params", [])}
    leaves = sorted(leaf for leaf in declared if "${" not in leaf)
    values = {leaf: lookup(params, leaf) for leaf in leaves} | {"arms": params["arms"]}

    files = {str(path): digest_once(root / path) for path in sources(behind, stages, root)}
    if params["data"]["name"] == "folder":
        files["photos"] = list_photos(root / params["data"]["folder"]["path"])

    text = json.dumps([_sorted(definitions), values, files], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def read_stages(path: Path = PIPELINE) -> Stages:
    """dvc.yaml's stages; a foreach stage by the body of its `do`, with what it runs over."""
    declared = yaml.safe_load(path.read_text())["stages"]
    return {
        name: {"foreach": stage.get("foreach")} | stage.get("do", stage)
        for name, stage in declared.items()
    }


def needed(stages: Stages, targets: Iterable[str]) -> Stages:
    """The targets and all that they depend on, directly or not."""
    found: Stages = {}
    waiting = list(targets)

    while waiting:
        name = waiting.pop()
        if name not in stages:
            raise BadInput(
                f"{PIPELINE}: there is no stage {name!r}; take one of {', '.join(stages)}"
            )
        if name in found or name in WITHOUT_RESULT:
            continue

        found[name] = stages[name]
        waiting += [maker for dep in stages[name].get("deps", []) for maker in makers(stages, dep)]
    return found


def makers(stages: Stages, dep: str) -> list[str]:
    """The stages whose outputs hold the dependency, or lie in it."""
    names = []
    for name, stage in stages.items():
        if any(touches(out, dep) for out in outputs(stage)):
            names.append(name)
    return names


def outputs(stage: dict[str, Any]) -> list[str]:
    """Paths up to a `${key}`, which stands for any arm."""
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])]
    paths = [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]
    return [path.split("${")[0].rstrip("/") for path in paths]


def touches(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def written(behind: Stages, stages: Stages) -> set[str]:
    """The dependencies, files and folders, that people write, not a stage; photos are apart."""
    deps = {dep for stage in behind.values() for dep in stage.get("deps", [])}
    return {dep for dep in deps if not dep.startswith("${") and not makers(stages, dep)}


def sources(behind: Stages, stages: Stages, root: Path = Path()) -> list[Path]:
    """The files that are among `written`, or in its folders."""
    files: set[Path] = set()
    for dep in written(behind, stages):
        path = root / dep
        if not path.exists():
            raise BadInput(f"{PIPELINE}: {dep} is not there; get it back with git")

        found = path.rglob("*") if path.is_dir() else [path]
        for file in found:
            if file.is_file() and "__pycache__" not in file.parts:
                files.add(file.relative_to(root))

    return sorted(files)


@cache
def list_photos(folder: Path) -> str:
    """A digest of the files' names and sizes; thousands of photos are listed once for all rows."""
    if not folder.is_dir():
        raise BadInput(
            f"data.folder.path: there is no folder {folder}; name the one with your photos"
        )

    files = [
        [path.relative_to(folder).as_posix(), path.stat().st_size]
        for path in folder.rglob("*")
        if path.is_file()
    ]
    return hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()


def digest_once(path: Path) -> str:
    """The file's hash; the base model's megabytes are read once for all rows."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@cache
def _digest(path: Path, _changed: int, _size: int) -> str:
    return digest(path)


def _sorted(definitions: Stages) -> Stages:
    """The definitions with sorted lists: lists in dvc.yaml say nothing by their order."""
    ordered: Stages = {}
    for name, stage in definitions.items():
        ordered[name] = {
            key: sorted(value, key=str) if isinstance(value, list) else value
            for key, value in stage.items()
        }
    return ordered

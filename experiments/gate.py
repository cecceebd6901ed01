"""The gate for pull requests: dvc.lock and the metrics in git belong to this commit.

It compares them with the commit's code and parameters. It needs no data and no cache, so that it
works in a fresh clone: data that is absent is taken to be what dvc.lock says.

`dvc repro --dry --allow-missing` would not do: it stops at the first stage that is not up to date
(some it names, of others it only says that data is missing), forgives metrics and code that are
absent, and exits with 0 after naming a stage.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.output import Output
from dvc.repo import Repo
from dvc.stage import PipelineStage as Stage

from experiments.commands import git
from experiments.reproducing.lock import LOCK, RERUN, Locked, hashes, read_lock
from experiments.running.fingerprint import PIPELINE, touches
from stages.shared.errors import BadInput
from stages.shared.params import read


def unpaired(declared: set[str], locked: set[str]) -> Iterator[str]:
    """The stages that dvc.yaml or dvc.lock has alone."""
    for name in sorted(declared - locked):
        yield f"{LOCK}: {name} is in {PIPELINE}, but has not been run; {RERUN}"

    for name in sorted(locked - declared):
        yield f"{LOCK}: {name} is no stage of {PIPELINE}; delete its entry, or give the stage back"


def stale(status: dict[str, list[Any]], made: set[str]) -> Iterator[str]:
    """The stages that ran with other code, parameters or commands, by `dvc status`.

    Data (`made`: all stages' outputs, and photos) is not compared, because a clone has none.
    """
    for name, changes in status.items():
        causes = [cause for change in changes for cause in find_causes(change, made)]
        if causes:
            yield f"{LOCK}: {name} was run before a change of {', '.join(causes)}; {RERUN}"


def find_causes(change: str | dict[str, Any], made: set[str]) -> Iterator[str]:
    """What has changed, by one entry of `dvc status`.

    It is a parameter, a file that people write, or the command.
    """
    if isinstance(change, str):
        yield f"{PIPELINE} ({change.removeprefix('changed ')})"
        return

    for path, state in change.get("changed deps", {}).items():
        if isinstance(state, dict):
            yield from (f"{leaf} ({path})" for leaf in state)
        elif not any(touches(path, out) for out in made):
            yield path


def unlocked(declared: Iterable[Stage], locked: Locked) -> Iterator[str]:
    """The stages that have been given an output since they ran."""
    for stage in declared:
        if stage.name not in locked:
            continue

        for out in stage.outs:
            if not out.hash_info:
                yield (
                    f"{LOCK}: {stage.name} was run before it had the output {relative(out)}; "
                    f"{RERUN}"
                )


def disjointed(locked: Locked, added: dict[str, str]) -> Iterator[str]:
    """The stages that read other data than what is locked: a merge of two runs, or newer photos.

    `added`: the md5 of what `dvc add` has put under DVC, by path.
    """
    made = {path: md5 for stage in locked.values() for path, md5 in hashes(stage, "outs").items()}
    made |= added

    for name, stage in locked.items():
        for path, md5 in hashes(stage, "deps").items():
            if made.get(path, md5) != md5:
                yield f"{LOCK}: {name} was run with another {path} than the one locked; {RERUN}"


def relative(out: Output) -> str:
    """The output's path from the repository's root."""
    return Path(out.fs_path).relative_to(out.repo.root_dir).as_posix()


def tracked_by_git(repo: Repo) -> dict[str, Output]:
    """The outputs that git is to keep (`cache: false`), by path: metrics, plots and the report."""
    return {relative(out): out for out in repo.index.outs if not out.use_cache}


def paths_of(text: str) -> set[str]:
    """The paths that git lists with -z."""
    return {path.rstrip("/") for path in text.split("\0") if path}


def ignored(paths: list[str]) -> set[str]:
    """The paths that match a rule of .gitignore, also where git has them, or no file exists."""
    command = ["git", "check-ignore", "--no-index", "-z", "--stdin"]

    # Its status is not checked: git exits with 1 where no path is ignored.
    done = subprocess.run(command, input="\0".join(paths), capture_output=True, text=True)
    return paths_of(done.stdout)


def check_git(outs: dict[str, Output]) -> Iterator[str]:
    """The outputs, and the files in their folders, that git does not keep."""
    if not outs:
        return

    kept = paths_of(git("ls-files", "-z")) - paths_of(git("ls-files", "--deleted", "-z"))
    others = paths_of(git("ls-files", "--others", "-z", "--", *outs))
    lacking = {path for path in outs if not any(touches(path, file) for file in kept | others)}

    # With a slash at their end, because a rule for folders alone matches no other name.
    folders = {f"{path}/" for path, out in outs.items() if out.hash_info.isdir}
    hidden = ignored(sorted({*outs, *others, *folders}))

    for path in sorted(hidden):
        yield (
            f"{path}: is ignored by git; take the rule out of .gitignore, `git add` it, "
            f"commit it with {LOCK}"
        )
    for path in sorted((lacking | others) - hidden):
        yield (
            f"{path}: is not in git; `dvc repro` if it is not there, `git add` it, "
            f"commit it with {LOCK}"
        )


def check_content(outs: dict[str, Output]) -> Iterator[str]:
    """The outputs whose content, hashed as DVC does, is not what dvc.lock has."""
    for path, out in sorted(outs.items()):
        if out.exists and out.hash_info and out.get_hash() != out.hash_info:
            yield (
                f"{path}: is not what {LOCK} has; `git checkout` it if edited by hand, "
                f"else commit it with {LOCK}"
            )


def inspect() -> Iterator[str]:
    """One line for each finding in the repository whose root is the working directory."""
    locked = read_lock()
    with Repo(os.curdir) as repo:
        stages = [stage for stage in repo.index.stages if isinstance(stage, Stage)]
        others = [stage for stage in repo.index.stages if not isinstance(stage, Stage)]
        yield from unpaired({stage.name for stage in stages}, set(locked))

        # Photos are data as well: a clone has none.
        status = {name: changes for name, changes in repo.status().items() if name in locked}
        photos = read()["data"]["folder"]["path"]
        yield from stale(status, {relative(out) for out in repo.index.outs} | {photos})

        yield from unlocked(stages, locked)
        added = {relative(out): out.hash_info.value for stage in others for out in stage.outs}
        yield from disjointed(locked, added)

        outs = tracked_by_git(repo)
        yield from check_git(outs)
        yield from check_content(outs)


def main() -> None:
    try:
        findings = list(inspect())
    except (DvcException, yaml.YAMLError) as error:
        words = " ".join(str(error).split())
        raise BadInput(f"{PIPELINE}, {LOCK}: cannot be read ({words}); fix that") from None

    print("\n".join(findings) or f"{LOCK} and metrics belong to this code and these parameters")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()

"""Push results to DVC's remote, so that no colleague computes them again.

    python -m experiments.push

`dvc push --run-cache` pushes the workspace's data, and records of which run has made what of what.
It leaves the content of metrics and plots to git, which has those of commits alone. But DVC takes a
stage from the run cache only with all of its outputs, so that the other runs' are pushed here.
"""

from pathlib import Path

import yaml
from dvc.config import NoRemoteError
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from experiments.gate import tracked_by_git
from stages.shared.errors import BadInput


def made_by_runs(repo: Repo) -> set[HashInfo]:
    """The metrics and plots of all runs in this machine's run cache."""
    in_git = tracked_by_git(repo)

    found = set()
    for record in Path(repo.stage_cache.cache_dir).glob("*/*/*"):
        for out in yaml.safe_load(record.read_text())["outs"]:
            if out["path"] in in_git:
                found.add(HashInfo("md5", out["md5"]))
    return found


def push(repo: Repo) -> int:
    """Push what colleagues need; returns the number of files that were not in the remote yet."""
    files = repo.push(run_cache=True)
    return files + len(repo.cloud.push(made_by_runs(repo)).transferred)


def main() -> None:
    try:
        with Repo() as repo:
            print(f"{push(repo)} files pushed")
    except NoRemoteError:
        raise BadInput(
            ".dvc/config: names no remote; `dvc remote add --default team FOLDER` (docs/teams.md)"
        ) from None


if __name__ == "__main__":
    main()

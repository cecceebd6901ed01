"""Run the pipeline from nothing in a clone of the last commit, and compare with its results.

    python -m experiments.verify                       every byte must be equal
    python -m experiments.verify --tolerance 0.5       metrics may differ by half a point
    python -m experiments.verify --again               two clones, with other settings, compared
    python -m experiments.verify --again --preset waterbird

Changes in the workspace do not count. The run uses nothing of the workspace but the commit, and has
a cache of its own. The workspace's cache lends the committed outputs, as far as it has them. Writes
metrics/verify.json (not with --again).
"""

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvc.repo import Repo

from experiments.commands import command_environment, dvc, git
from experiments.gate import tracked_by_git
from experiments.markdown import markdown_table
from experiments.reproducing.differences import (
    Checkout,
    Found,
    compare,
    judge,
    passes,
    render,
    show,
)
from experiments.reproducing.environment import Environment, describe, settings
from experiments.reproducing.lock import LOCK, hashes, read_lock
from experiments.running.results import read_json
from experiments.tables.recipes import PRESETS, read_preset
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.hashes import digest
from stages.shared.params import PATH, read
from stages.shared.paths import METRICS

RECORD = METRICS / "verify.json"
OTHER_SETTINGS = {"DIFFMIX_WORKERS": "2"}  # of the second run

# These variables would lead stages to another folder's work or code.
FOREIGN = ("DVC_ROOT", "PYTHONPATH", "PYTHONSAFEPATH")


def clone(commit: str, folder: Path) -> Path:
    """Clone the repository into the folder, with the commit checked out; returns the folder."""
    git("clone", "--quiet", "--no-checkout", os.curdir, str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    return folder


def check_preset(committed: Path, preset: str | None, again: bool) -> None:
    """Raises BadInput for a preset that cannot be compared.

    That is one that the commit has not, or with which the committed results were not made.
    """
    with chdir(committed):
        if preset and read_preset(preset) != read() and not again:
            raise BadInput(
                f"--preset {preset}: is not what the committed results were made with; add --again"
            )


def restore(committed: Path) -> Checkout:
    """The committed results: git's files, and of the others what the workspace's cache has."""
    with Repo(os.curdir) as repo:
        cache = repo.cache.local_cache_dir

    with chdir(committed):
        dvc("config", "--local", "cache.dir", cache)
        dvc("checkout", "--allow-missing")

    return Checkout("commit", committed, read_lock(committed / LOCK))


def reproduce(
    name: str, folder: Path, preset: str | None, other_settings: dict[str, str]
) -> Checkout:
    """Run all stages in the clone; raises BadInput where one fails."""
    clear(folder)
    if preset:
        shutil.copy(folder / PRESETS / f"{preset}.yaml", folder / PATH)

    command = [sys.executable, "-m", "dvc", "repro", "--no-run-cache"]
    environment = surroundings(folder.parent) | other_settings
    done = subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr)
    if done.returncode:
        raise BadInput(
            f"{name}: `dvc repro` fails in a fresh clone (see above); "
            "fix and commit that, then call again"
        )

    return Checkout(name, folder, read_lock(folder / LOCK))


def clear(folder: Path) -> None:
    """Remove the lock and the results: DVC would skip a stage whose outputs all come with git."""
    for stage in read_lock(folder / LOCK).values():
        for path in hashes(stage, "outs"):
            shutil.rmtree(folder / path, ignore_errors=True)
            (folder / path).unlink(missing_ok=True)

    (folder / LOCK).unlink()


def surroundings(scratch: Path) -> dict[str, str]:
    """Environment variables of a run, with folders for DVC's own files in `scratch`.

    No one's DVC configuration counts but the clone's: another may name a shared cache.
    """
    kept = {name: value for name, value in command_environment().items() if name not in FOREIGN}
    kinds = ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")
    return kept | {f"DVC_{kind}_DIR": str(scratch / kind) for kind in kinds}


def committed_environment(record: dict[str, Any], lock_digest: str) -> Environment | None:
    """The environment that the committed results come from.

    None where the record is of other results: of a lock with another digest than theirs.
    """
    if record.get("lock") != lock_digest:
        return None

    same = all(stage["verdict"] == "bit-identical" for stage in record["stages"].values())
    return record["environments"]["verified" if same else "committed"]


def render_environments(environments: dict[str, Environment | None]) -> str:
    """A Markdown table, a column a run."""
    lines = [["", *environments], ["---"] * (1 + len(environments))]

    sides = [environment or {} for environment in environments.values()]
    for field in dict.fromkeys(field for side in sides for field in side):
        lines.append([field, *(side.get(field, "unknown") for side in sides)])

    return markdown_table(lines)


def write_record(
    found: Found, tolerance: float, commit: str, lock_digest: str, origin: Environment | None
) -> None:
    """Write metrics/verify.json; `origin`: the environment that the committed results come from."""
    stages = {}
    for name, differences in found.items():
        files = [show(difference) for difference in differences]
        stages[name] = {"verdict": judge(differences, tolerance), "files": files}

    content = {
        "commit": commit,
        "lock": lock_digest,
        "tolerance": tolerance,
        "environments": {"verified": describe(), "committed": origin},
        "stages": stages,
    }
    write_json(RECORD, content)


def conclude(found: Found, tolerance: float, environments: dict[str, Environment | None]) -> int:
    """Print both tables and the verdict; returns the exit status."""
    print(f"{render(found, tolerance)}\n\n{render_environments(environments)}\n")

    names = " and ".join(environments)
    if passes(found, 0.0):
        print(f"{names}: bit-identical")
        return 0
    if passes(found, tolerance):
        print(f"{names}: no number of a metric differs by more than {tolerance:g}")
        return 0

    print(f"{names}: differ by more than the tolerance of {tolerance:g}")
    return 1


def verify(preset: str | None, tolerance: float, again: bool, scratch: Path) -> int:
    """Run the pipeline once and compare it with the commit, or twice; returns the exit status."""
    commit = git("rev-parse", "HEAD").strip()
    committed = clone(commit, scratch / "committed")
    check_preset(committed, preset, again)

    name = "first run" if again else "run"
    one = reproduce(name, clone(commit, scratch / "one/clone"), preset, {})
    with Repo(str(one.folder)) as repo:
        metrics = set(tracked_by_git(repo))

    if again:
        # Another depth of folder, too: no result may depend on where it was made.
        folder = clone(commit, scratch / "two/further/clone")
        other = reproduce("second run", folder, preset, OTHER_SETTINGS)
        second = describe() | {"settings": settings(os.environ | OTHER_SETTINGS)}
        found = compare(one, other, metrics)
        return conclude(found, tolerance, {one.name: describe(), other.name: second})

    found = compare(one, restore(committed), metrics)
    lock_digest = digest(committed / LOCK)
    origin = committed_environment(read_json(committed / RECORD), lock_digest)
    write_record(found, tolerance, commit, lock_digest, origin)
    return conclude(found, tolerance, {one.name: describe(), "commit": origin})


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.verify", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--preset", help="a file of presets/, without .yaml; default: the committed params.yaml"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="points a metric's number may differ by; default 0",
    )
    parser.add_argument(
        "--again", action="store_true", help="compare two runs with each other, not with the commit"
    )
    given = parser.parse_args()

    with TemporaryDirectory(prefix="verify-") as scratch:
        sys.exit(verify(given.preset, given.tolerance, given.again, Path(scratch).resolve()))


if __name__ == "__main__":
    main()

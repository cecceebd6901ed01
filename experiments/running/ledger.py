"""What every experiment has measured: metrics/paper/runs.jsonl, a line an experiment.

Tables and claims are made of it. It is in git, so that they can be made anew in a clone, which has
no experiments, and an interrupted series goes on there.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from experiments.commands import git
from experiments.running.fingerprint import DIGITS
from stages.shared.errors import BadInput

COMMIT_DIGITS = 7
Targets = tuple[str, ...]
Entry = dict[str, Any]  # name, fingerprint, commit, seconds and metrics


class Ledger:
    """The lines of the file, by fingerprint."""

    def __init__(self, path: Path):
        self.path = path
        self.entries = read_entries(path)

    def __contains__(self, fingerprint: str) -> bool:
        return fingerprint in self.entries

    def __getitem__(self, fingerprint: str) -> Entry:
        return self.entries[fingerprint]

    def collect(self, wanted: dict[str, Targets], refs: dict[str, str]) -> None:
        """Enter those of `wanted` that have a git ref in `refs`, and no line yet.

        A line of older code, which has the same name up to the fingerprint, makes way.
        """
        new = [key for key in wanted if key in refs and key not in self]
        entered = [read_experiment(refs[key], wanted[key]) for key in new]
        stems = {stem(entry["name"]) for entry in entered}
        kept = [entry for entry in self.entries.values() if stem(entry["name"]) not in stems]

        self.entries = {entry["fingerprint"]: entry for entry in [*kept, *entered]}

    def note_seconds(self, seconds: dict[str, float]) -> None:
        """Add how long experiments took, by fingerprint."""
        for fingerprint, value in seconds.items():
            if fingerprint in self:
                self[fingerprint]["seconds"] = value

    def write(self) -> None:
        """Write all lines, by name, with those that others have written since; whole at any time.

        Of two lines of one name this ledger's stays.
        """
        if not self.entries:
            return

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent):
            own = {stem(entry["name"]) for entry in self.entries.values()}
            for fingerprint, entry in read_entries(self.path).items():
                if stem(entry["name"]) not in own:
                    self.entries[fingerprint] = entry

            entries = sorted(self.entries.values(), key=lambda entry: entry["name"])
            lines = [json.dumps(entry, sort_keys=True) for entry in entries]

            new = self.path.with_suffix(".new")
            new.write_text("\n".join(lines) + "\n")
            new.replace(self.path)


def read_entries(path: Path) -> dict[str, Entry]:
    """The file's lines by fingerprint; raises BadInput for one that is broken."""
    lines = path.read_text().splitlines() if path.is_file() else []
    entries: dict[str, Entry] = {}

    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            entries[entry["fingerprint"]] = entry
        except (ValueError, KeyError, TypeError):
            raise BadInput(
                f"{path}: line {number} is no experiment (a conflict of git's?); "
                "remove the line, then call again"
            ) from None

    return entries


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold others back that write in the folder; the kernel drops the lock with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def stem(name: str) -> str:
    """An experiment's name without its fingerprint."""
    return name[: -DIGITS - 1]


def read_experiment(ref: str, targets: Targets) -> Entry:
    """The line of an experiment, with what its targets have measured at its git ref.

    To evaluate an arm it was trained. Other metrics at the ref are those of another run.
    """
    # refs/exps/<2 digits>/<38 digits>/<name>: the digits are the commit that it was run at
    *_, first, rest, name = ref.split("/")

    metrics = {target: read_metrics(ref, target) for target in targets}
    for arm in metrics.get("evaluate", {}).get("arms", {}):
        metrics[f"train/{arm}"] = read_metrics(ref, f"train/{arm}")

    return {
        "name": name,
        "fingerprint": name[-DIGITS:],
        "commit": (first + rest)[:COMMIT_DIGITS],
        "seconds": None,
        "metrics": metrics,
    }


def read_metrics(ref: str, name: str) -> dict[str, Any]:
    """A file of metrics/ at a git ref."""
    return json.loads(git("show", f"{ref}:metrics/{name}.json"))

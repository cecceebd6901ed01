"""Run the experiments of a table, a figure or all claims through DVC, beside the paper's numbers.

    python -m experiments.run table5                   all rows of experiments/tables/table5.yaml
    python -m experiments.run fig6 '5-shot *'          the rows whose names match
    python -m experiments.run claims --dry             what would be run, and nothing else

What is finished already is not run again; an interrupted call goes on where it was. Environment:
PRESET, a file of presets/ (default toybirds), and JOBS, experiments at a time (default 1).
"""

import argparse
import os
import sys
from pathlib import Path

from experiments.claims.schema import find_cases, read_claims
from experiments.running import queue, watch
from experiments.running.fingerprint import read_stages
from experiments.running.ledger import FILE, Ledger, Targets
from experiments.running.plans import lacking, plan, spent, targets_of
from experiments.running.queue import Experiment
from experiments.running.results import (
    DEFAULT_PRESET,
    folder,
    keep_published,
    record,
    setting_of,
    write,
)
from experiments.running.watch import Watch
from experiments.running.workspace import Workspace
from experiments.tables.recipes import Case, cases, read_preset, read_table
from experiments.tables.replicates import count_replicates, replicates
from stages.shared.errors import BadInput
from stages.shared.params import read
from stages.shared.running.work import INTERRUPTED

WHOLE = ("claims", "table11")  # have no rows of their own


def jobs() -> int:
    """Experiments at a time; raises BadInput where JOBS is no such number."""
    text = os.environ.get("JOBS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"JOBS: {text!r} is not a number of at least 1; unset it for 1")
    return int(text)


class Series:
    """The replicates of some rows, and the ledger that holds what they have measured."""

    def __init__(self, preset: str):
        self.stages = read_stages()
        self.workspace = Workspace(self.stages)
        self.ledger = Ledger(folder(preset) / FILE)

    def run(self, rows: list[Case], count: int, dry: bool) -> int:
        """Run what the ledger lacks of each row's replicates; returns the exit status."""
        wanted = [case for number in range(count) for case in replicate_all(rows, count, number)]
        targets = targets_of(wanted, self.stages)
        self.ledger.collect(targets, queue.finished())

        missing = self.announce(wanted, len(rows), count)
        if dry or not missing:
            return 0
        return self.perform(missing, targets)

    def announce(self, wanted: list[Case], rows: int, count: int) -> list[Experiment]:
        """Say what there is to do; returns it."""
        params = read()
        whole = plan(wanted, self.stages, params)
        missing = plan(lacking(wanted, self.stages, self.ledger), self.stages, params)

        times = f" in {count} replicates" if count > 1 else ""
        finished = len(whole) - len(missing)
        print(
            f"{rows} rows{times}, {len(whole)} experiments: "
            f"{finished} are there, {len(missing)} to run"
        )
        for experiment in missing:
            print(f"  {experiment.name}")

        if missing and (others := count_others(missing)):
            print(
                f"{others} others wait in DVC's queue before these; "
                "`dvc queue remove --queued` drops all that wait"
            )
        return missing

    def perform(self, experiments: list[Experiment], targets: dict[str, Targets]) -> int:
        """Run them all; returns the exit status.

        The ledger has each as soon as it has ended, however the wait ends.
        """
        self.workspace.check_place()
        self.workspace.check_clean()  # else DVC would take changes along that are in no commit
        session = Watch(experiments, self.workspace, queue)

        def keep() -> None:
            self.ledger.collect(targets, queue.finished())
            self.ledger.note_seconds(seconds_of(session))

        status = 0
        try:
            watch.run(session, jobs(), keep)
        except KeyboardInterrupt:
            print(
                "interrupted; the same call goes on "
                "(a worker may still be at work: `dvc queue stop --kill` ends it)"
            )
            status = INTERRUPTED
        finally:
            keep()

        return status or int(any(outcome.failed for outcome in session.ended.values()))


def replicate_all(rows: list[Case], count: int, number: int) -> list[Case]:
    """All rows' replicate of that number, so that whole replicates come one after the other."""
    return [replicates(case, count)[number] for case in rows]


def seconds_of(session: Watch) -> dict[str, float]:
    """How long those took that have ended well, by fingerprint."""
    return {
        fingerprint: outcome.seconds
        for fingerprint, outcome in session.ended.items()
        if outcome.seconds and not outcome.failed
    }


def count_others(experiments: list[Experiment]) -> int:
    """What waits in the queue, which goes by age, and is not among them."""
    entries = queue.entries()
    waiting = {fingerprint for fingerprint in entries if entries[fingerprint].status == "Queued"}
    return len(waiting - {experiment.fingerprint for experiment in experiments})


def run_table(name: str, patterns: list[str], preset: str, dry: bool) -> int:
    """Returns the exit status."""
    table = read_table(name)
    tree = read_preset(preset)
    count = count_replicates(table.replicates)
    path = folder(preset) / f"{name}.json"

    series = Series(preset)
    chosen = cases(name, tree, patterns)
    status = series.run(chosen, count, dry)
    if dry:
        return status

    rows = [
        record(case, table.columns, series.stages, series.ledger, count)
        for case in cases(name, tree)
    ]
    rows = keep_published(rows, path, table.columns)
    write(path, table, rows, preset, setting_of(count, tree))

    cost = spent(replicate_rows(chosen, count), series.stages, series.ledger)
    print(f"wrote {path} and {path.with_suffix('.md')}; {cost}")
    return status


def replicate_rows(rows: list[Case], count: int) -> list[Case]:
    return [case for row in rows for case in replicates(row, count)]


def run_claims(preset: str, dry: bool) -> int:
    """Returns the exit status."""
    claims = read_claims()
    tree = read_preset(preset)
    count = count_replicates(claims.replicates)
    rows = find_cases(claims, tree)

    series = Series(preset)
    status = series.run(list(rows.values()), count, dry)
    if dry:
        return status

    return status


def run_throughput(preset: str, dry: bool) -> int:
    """Returns the exit status."""
    if dry:
        print(
            "no experiments: it measures this machine, "
            "with what `dvc repro` has left in the workspace"
        )
        return 0

    from experiments import throughput  # here: it imports diffusers, which takes seconds

    throughput.run(preset)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("name", help="a file of experiments/tables/, without .yaml")
    parser.add_argument(
        "rows", nargs="*", help="names of rows, with * for anything; none: all of them"
    )
    parser.add_argument("--dry", action="store_true", help="say what would be run, and run nothing")
    given = parser.parse_args()

    preset = os.environ.get("PRESET", DEFAULT_PRESET)
    if given.name in WHOLE and given.rows:
        parser.error(f"{given.name} has no rows to choose from")

    if given.name == "table11":
        sys.exit(run_throughput(preset, given.dry))
    if given.name == "claims":
        sys.exit(run_claims(preset, given.dry))
    sys.exit(run_table(given.name, given.rows, preset, given.dry))


if __name__ == "__main__":
    main()

"""The replicates of some rows: run through DVC's queue where the ledger lacks them."""

import os

from experiments.running import queue, watch
from experiments.running.fingerprint import read_stages
from experiments.running.ledger import Ledger, Targets, stem
from experiments.running.plans import Spent, lacking, plan, spent, targets_of
from experiments.running.queue import Experiment
from experiments.running.results import folder
from experiments.running.watch import Watch
from experiments.running.workspace import Workspace
from experiments.tables.recipes import Case
from experiments.tables.replicates import replicates
from stages.shared.errors import BadInput
from stages.shared.params import read
from stages.shared.running.work import INTERRUPTED


class Series:
    """Rows in so many replicates each, and the ledger that holds what they have measured."""

    def __init__(self, rows: list[Case], count: int, preset: str):
        self.rows = rows
        self.count = count
        self.stages = read_stages()
        self.workspace = Workspace(self.stages)
        self.ledger = Ledger(folder(preset) / "runs.jsonl")

        # whole replicates, one after the other
        by_row = [replicates(row, count) for row in rows]
        self.cases = [case for replicate in zip(*by_row, strict=True) for case in replicate]

    def run(self, dry: bool) -> int:
        """Run what the ledger lacks, or only say what that is; returns the exit status."""
        targets = targets_of(self.cases, self.stages)
        self.ledger.collect(targets, queue.finished())

        missing = self._announce()
        self._tell_older(missing)
        if dry:
            return 0
        if not missing:
            self.ledger.write()
            return 0
        return self._perform(missing, targets)

    def spent(self) -> Spent:
        """What the rows' experiments have cost."""
        return spent(self.cases, self.stages, self.ledger)

    def _announce(self) -> list[Experiment]:
        """Say what there is to do; returns it."""
        params = read()
        whole = plan(self.cases, self.stages, params)
        missing = plan(lacking(self.cases, self.stages, self.ledger), self.stages, params)

        times = f" in {self.count} replicates" if self.count > 1 else ""
        finished = len(whole) - len(missing)
        print(
            f"{len(self.rows)} rows{times}, {len(whole)} experiments: "
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

    def _tell_older(self, missing: list[Experiment]) -> None:
        """Say where the ledger has results of the missing ones that other code has made."""
        names = {stem(experiment.name) for experiment in missing}
        older = [entry for entry in self.ledger.entries.values() if stem(entry["name"]) in names]
        if older:
            commits = ", ".join(sorted({entry["commit"] for entry in older}))
            print(
                f"{len(older)} of these were run by other code (commits {commits}), whose results "
                "are not taken for this one's"
            )

    def _perform(self, experiments: list[Experiment], targets: dict[str, Targets]) -> int:
        """Run them all; returns the exit status.

        The ledger on the disk has each as soon as it has ended, however the wait ends.
        """
        self.workspace.check_place()
        self.workspace.check_clean()  # else DVC would take changes along that are in no commit
        session = Watch(experiments, self.workspace, queue)
        print("`dvc queue logs NAME` shows how far an experiment is")

        def keep() -> None:
            self.ledger.collect(targets, queue.finished())
            self.ledger.note_seconds(seconds_of(session))
            self.ledger.write()

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


def jobs() -> int:
    """Experiments at a time; raises BadInput where JOBS is no such number."""
    text = os.environ.get("JOBS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"JOBS: {text!r} is not a number of at least 1; unset it for 1")
    return int(text)


def count_others(experiments: list[Experiment]) -> int:
    """What waits in the queue, which goes by age, and is not among them."""
    entries = queue.entries()
    waiting = {fingerprint for fingerprint in entries if entries[fingerprint].status == "Queued"}
    return len(waiting - {experiment.fingerprint for experiment in experiments})


def seconds_of(session: Watch) -> dict[str, float]:
    """How long those took that have ended well, by fingerprint."""
    return {
        fingerprint: outcome.seconds
        for fingerprint, outcome in session.ended.items()
        if outcome.seconds and not outcome.failed
    }

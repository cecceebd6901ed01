"""Which experiments the rows of a table need.

Rows with equal parameters share one, and an experiment that is finished is not run again.
"""

import json
import re
from typing import NamedTuple

from experiments.running.fingerprint import Stages, fingerprint
from experiments.running.ledger import Ledger, Targets
from experiments.running.overrides import overrides
from experiments.running.queue import Experiment
from experiments.tables.recipes import Case, Target, Tree

ALL: tuple[Target, ...] = ("assess", "evaluate")  # an experiment of both serves any row


def fingerprints_of(case: Case, stages: Stages) -> list[str]:
    """The fingerprints of the experiments that serve a row, that of its own targets first."""
    choices = dict.fromkeys([case.targets, ALL])
    return [fingerprint(stages, targets, case.params) for targets in choices]


def targets_of(cases: list[Case], stages: Stages) -> dict[str, Targets]:
    """The targets of every experiment that serves one of the rows, by fingerprint."""
    known: dict[str, Targets] = {}
    for case in cases:
        own, *wider = fingerprints_of(case, stages)
        known[own] = case.targets
        known |= dict.fromkeys(wider, ALL)
    return known


def find_serving(case: Case, stages: Stages, ledger: Ledger) -> str | None:
    """The fingerprint of an experiment in the ledger that serves the row."""
    serving = [key for key in fingerprints_of(case, stages) if key in ledger]
    return serving[0] if serving else None


def lacking(cases: list[Case], stages: Stages, ledger: Ledger) -> list[Case]:
    """The rows that no experiment in the ledger serves."""
    return [case for case in cases if find_serving(case, stages, ledger) is None]


def plan(cases: list[Case], stages: Stages, workspace: Tree) -> list[Experiment]:
    """One experiment for all rows with equal parameters, with the targets of all of them.

    `workspace` holds the parameters that the experiments change.
    """
    return [plan_one(case, stages, workspace) for case in merge(cases)]


def merge(cases: list[Case]) -> list[Case]:
    """The first of all rows with equal parameters, with the targets of all of them."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(json.dumps(case.params, sort_keys=True), []).append(case)

    merged = []
    for group in groups.values():
        targets = {target for case in group for target in case.targets}
        merged.append(group[0]._replace(targets=tuple(sorted(targets))))
    return merged


def plan_one(case: Case, stages: Stages, workspace: Tree) -> Experiment:
    """The row's own experiment; its name ends with its fingerprint."""
    key = fingerprint(stages, case.targets, case.params)
    name = f"{slug(case.table)}-{slug(case.name)}-{key}"
    changes = tuple(overrides(workspace, case.params))
    return Experiment(name, key, case.targets, changes)


def slug(text: str) -> str:
    """The text as git allows it in a ref."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


class Spent(NamedTuple):
    """What rows' experiments have cost; the minutes are of those whose time is known."""

    experiments: int
    minutes: float
    untimed: int

    def __str__(self) -> str:
        timed = self.experiments - self.untimed
        aside = f" for the {timed} that were timed" if self.untimed else " in all"
        return f"{self.experiments} experiments, {self.minutes:g} min{aside}"


def spent(cases: list[Case], stages: Stages, ledger: Ledger) -> Spent:
    """Of the experiments that the ledger holds."""
    serving = [find_serving(case, stages, ledger) for case in merge(cases)]
    seconds = [ledger[key]["seconds"] for key in serving if key is not None]
    known = [value for value in seconds if value is not None]

    return Spent(len(seconds), round(sum(known) / 60, 1), len(seconds) - len(known))

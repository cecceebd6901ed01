"""Which experiments the rows of a table need: those with equal parameters once, and none that is already there."""

import json
import re
from collections.abc import Collection

from experiments.fingerprint import Stages, fingerprint
from experiments.overrides import overrides
from experiments.queue import Experiment
from experiments.recipes import Case, Tree

ALL = ("assess", "evaluate")  # an experiment of more targets serves a row that needs fewer


def marks(case: Case, stages: Stages) -> list[str]:
    """The fingerprints of the experiments that serve a row, that of its own targets first."""
    return [fingerprint(stages, targets, case.params) for targets in dict.fromkeys([case.targets, ALL])]


def plan(cases: list[Case], stages: Stages, workspace: Tree) -> list[Experiment]:
    """One experiment for all rows with equal parameters, with the targets of all of them.

    `workspace` holds the parameters that the experiments change.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(json.dumps(case.params, sort_keys=True), []).append(case)
    return [experiment(group, stages, workspace) for group in groups.values()]


def experiment(group: list[Case], stages: Stages, workspace: Tree) -> Experiment:
    first = group[0]
    targets = tuple(sorted({target for case in group for target in case.targets}))
    mark = fingerprint(stages, targets, first.params)
    name = f"{slug(first.table)}-{slug(first.name)}-{mark}"
    return Experiment(name, mark, targets, tuple(overrides(workspace, first.params)))


def slug(text: str) -> str:
    """As git allows it in a ref."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def serving(case: Case, stages: Stages, there: Collection[str]) -> str | None:
    """The fingerprint of an experiment that is there and serves the row."""
    return next((mark for mark in marks(case, stages) if mark in there), None)

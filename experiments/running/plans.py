"""Which experiments the rows of a table need: those with equal parameters once, and none that is already there."""

import json
import re
from collections.abc import Collection
from typing import NamedTuple

from experiments.running.fingerprint import Stages, fingerprint
from experiments.running.overrides import overrides
from experiments.running.queue import Experiment
from experiments.tables.recipes import Case, Target, Tree

ALL: tuple[Target, ...] = (
    "assess",
    "evaluate",
)  # an experiment of more targets serves a row that needs fewer


def marks(case: Case, stages: Stages) -> list[str]:
    """The fingerprints of the experiments that serve a row, that of its own targets first."""
    return [
        fingerprint(stages, targets, case.params) for targets in dict.fromkeys([case.targets, ALL])
    ]


def plan(cases: list[Case], stages: Stages, workspace: Tree) -> list[Experiment]:
    """One experiment for all rows with equal parameters, with the targets of all of them.

    `workspace` holds the parameters that the experiments change.
    """
    return [experiment(case, stages, workspace) for case in merge(cases)]


def merge(cases: list[Case]) -> list[Case]:
    """The first of all rows with equal parameters, with the targets of all of them."""
    groups: dict[str, list[Case]] = {}
    for case in cases:
        groups.setdefault(json.dumps(case.params, sort_keys=True), []).append(case)
    targets = [{target for case in group for target in case.targets} for group in groups.values()]
    return [
        group[0]._replace(targets=tuple(sorted(all_targets)))
        for group, all_targets in zip(groups.values(), targets, strict=True)
    ]


def experiment(case: Case, stages: Stages, workspace: Tree) -> Experiment:
    mark = fingerprint(stages, case.targets, case.params)
    name = f"{slug(case.table)}-{slug(case.name)}-{mark}"
    return Experiment(name, mark, case.targets, tuple(overrides(workspace, case.params)))


def slug(text: str) -> str:
    """As git allows it in a ref."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def serving(case: Case, stages: Stages, there: Collection[str]) -> str | None:
    """The fingerprint of an experiment that is there and serves the row."""
    return next((mark for mark in marks(case, stages) if mark in there), None)


class Spent(NamedTuple):
    """What rows' experiments have cost, those without a known time aside."""

    experiments: int
    minutes: float
    untimed: int

    def __str__(self) -> str:
        aside = f" (of which {self.untimed} have no time)" if self.untimed else ""
        return f"{self.experiments} experiments{aside}, {self.minutes:g} min in all"


def spent(cases: list[Case], stages: Stages, seconds: dict[str, float]) -> Spent:
    """`seconds` is by fingerprint."""
    served = [serving(case, stages, seconds) for case in merge(cases)]
    known = [seconds[mark] for mark in served if mark is not None]
    return Spent(len(served), round(sum(known) / 60, 1), len(served) - len(known))

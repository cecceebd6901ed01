"""The verdicts on the claims, by what the ledger holds of the rows that they compare."""

from typing import Any, Literal, NamedTuple

from experiments.claims.analysis import (
    PValues,
    Rule,
    decide,
    judge_part,
    p_values_of_claim,
    p_values_of_part,
    replicates_needed,
)
from experiments.claims.schema import MEASURES, Claim, Claims, Part, rows_of
from experiments.intervals import Estimate, estimate, sign_flip
from experiments.running.fingerprint import Stages
from experiments.running.ledger import Entry, Ledger
from experiments.running.plans import find_serving
from experiments.running.results import find
from experiments.tables.recipes import Case, Tree
from experiments.tables.replicates import replicates

FAITHFUL = "faithfulness"  # of metrics/assess.json
Unknown = Literal["missing", "not measurable"]
FAMILIES = ("The paper's claims", "Claims beyond the paper")


class Finding(NamedTuple):
    """A part's difference in each replicate, in points, and which code has made it."""

    values: list[float]
    commits: set[str]


class Evidence:
    """What the ledger holds of the claims' rows."""

    def __init__(self, rows: dict[str, Case], stages: Stages, ledger: Ledger, count: int):
        self.rows = rows
        self.count = count
        self.entries = {
            name: [entry_of(case, stages, ledger) for case in replicates(row, count)]
            for name, row in rows.items()
        }

    def find(self, part: Part) -> Finding | Unknown:
        """The part's differences.

        Missing where a row lacks a replicate: a verdict that is read before the last one has come
        could be stopped at will.
        """
        needed = [entry for row in rows_of(part) for entry in self.entries[row]]
        known = [entry for entry in needed if entry is not None]
        if len(known) < len(needed):
            return "missing"

        values = [self._difference(part, number) for number in range(self.count)]
        measured = [value for value in values if value is not None]
        if len(measured) < len(values):
            return "not measurable"
        return Finding(measured, {entry["commit"] for entry in known})

    def count_done(self, part: Part) -> int:
        """The replicates that have run all of the part's rows."""
        by_replicate = zip(*(self.entries[row] for row in rows_of(part)), strict=True)
        return sum(None not in entries for entries in by_replicate)

    def _difference(self, part: Part, number: int) -> float | None:
        """The part's difference in one replicate; None where the dataset cannot measure it."""
        better = [self._contrast(part, row, number) for row in part.better]
        worse = [self._contrast(part, row, number) for row in part.worse]
        if None in better + worse:
            return None

        return mean(better) - (mean(worse) if worse else 0.0)

    def _contrast(self, part: Part, row: str, number: int) -> float | None:
        """A row's measure, less what it is to be beyond."""
        entry = self.entries[row][number]
        assert entry is not None, "rows were found complete"

        arm = self.rows[row].arm
        own = [value_of(entry, name, arm) for name in part.measure]
        beyond = [value_of(entry, name, arm) for name in part.beyond]
        if None in own + beyond:
            return None

        return mean(own) - (mean(beyond) if beyond else 0.0)


def mean(values: list[Any]) -> float:
    return sum(values) / len(values)


def entry_of(case: Case, stages: Stages, ledger: Ledger) -> Entry | None:
    """The ledger's line that serves the row; None where it has none."""
    fingerprint = find_serving(case, stages, ledger)
    return None if fingerprint is None else ledger[fingerprint]


def value_of(entry: Entry, measure: str, arm: str) -> float | None:
    """An arm's measure; None where the dataset has no images for it, or no judge.

    Without a judge faithfulness is a similarity, which has no points.
    """
    file, path = MEASURES[measure].format(arm=arm).split(" ")
    metrics = entry["metrics"][file]
    if path.startswith(FAITHFUL) and metrics.get(FAITHFUL, {}).get("measure") != "judge":
        return None

    found = find(metrics, path)
    return None if found is None else found["value"]


def rule_of(part: Part, claims: Claims) -> Rule:
    return Rule(part.kind, part.margin or claims.margin)


def family_of(claim: Claim) -> str:
    """Claims of one family are judged together."""
    return FAMILIES[0] if claim.paper else FAMILIES[1]


def report_part(part: Part, found: Finding | Unknown, rule: Rule) -> Tree:
    """What metrics/claims.json holds of a part."""
    content = part.model_dump() | {"margin": rule.margin}
    if not isinstance(found, Finding):
        return content | {"verdict": found, "commits": []}

    mean_of_all = estimate(found.values)
    verdict = judge_part(mean_of_all, rule)
    needed = replicates_needed(mean_of_all, rule) if verdict == "undecided" else None
    return content | {
        "verdict": verdict,
        "commits": sorted(found.commits),
        "values": [round(value, 4) for value in found.values],
        "difference": round_all(mean_of_all),
        "p": round_p(p_values_of_part(mean_of_all, rule)),
        "p_sign_flip": round(sign_flip(found.values, rule.threshold), 4),
        "needed": needed,
    }


def round_all(found: Estimate) -> Tree:
    return {
        "value": round(found.value, 2),
        "interval": [round(found.low, 2), round(found.high, 2)],
        "deviation": round(found.deviation, 2),
    }


def round_p(values: PValues) -> Tree:
    return {name: float(f"{value:.3g}") for name, value in values._asdict().items()}


def judge_all(claims: Claims, evidence: Evidence) -> Tree:
    """What metrics/claims.json holds: every claim with its parts, p values and verdict."""
    content: Tree = {}
    tested: dict[str, dict[str, PValues]] = {family: {} for family in FAMILIES}

    for key, claim in claims.claims.items():
        rules = [rule_of(part, claims) for part in claim.parts]
        found = [evidence.find(part) for part in claim.parts]
        parts = [
            report_part(*each) | {"replicates": evidence.count_done(each[0])}
            for each in zip(claim.parts, found, rules, strict=True)
        ]
        content[key] = {
            "text": claim.text,
            "paper": " ".join(claim.paper.split()),
            "source": claim.source,
            "family": family_of(claim),
            "parts": parts,
            "unmeasured": found.count("not measurable"),
            "verdict": "missing" if "missing" in found else "not measurable",
        }

        # What the dataset has no images for does not count.
        complete = [
            p_values_of_part(estimate(one.values), rule)
            for one, rule in zip(found, rules, strict=True)
            if isinstance(one, Finding)
        ]
        if complete and "missing" not in found:
            tested[family_of(claim)][key] = p_values_of_claim(complete)

    for name, family in tested.items():
        size = len(family) + count_missing(content, name)
        for key, verdict in decide(family, claims.level, size).items():
            content[key] |= {"verdict": verdict, "p": round_p(family[key])}

    head = claims.model_dump(include={"title", "note", "level", "margin"})
    counts = {"replicates": evidence.count, "replicates_asked": claims.replicates}
    return head | counts | {"claims": content}


def count_missing(content: Tree, family: str | None = None) -> int:
    """How many claims, of the family or of all, are still to be run."""
    missing = [claim for claim in content.values() if claim["verdict"] == "missing"]
    return sum(family in (None, claim["family"]) for claim in missing)

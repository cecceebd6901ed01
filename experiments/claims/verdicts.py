"""The paper's claims as comparisons between rows of the tables: reads experiments/tables/claims.yaml and the rows' runs.

A part of a claim holds where the 95 % interval of its difference lies above zero (for `not-worse`: above minus the
margin), fails where it lies below, and is undecided between. A claim holds where all of its parts hold, and fails where
one fails; a part that the dataset has no images for does not count.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from tqdm import tqdm

from experiments.claims import evidence, revisions
from experiments.claims.evidence import (
    Gain,
    Unmeasurable,
    check_measure,
    compare,
    compare_images,
    compare_kept,
)
from experiments.claims.revisions import Run, open_run
from experiments.running.fingerprint import DIGITS, Stages, digest
from experiments.running.plans import marks
from experiments.tables.recipes import Case, Target, Tree, cases, parse, read_recipe
from stages.shared.errors import BadInput
from stages.shared.measuring import accuracy, bootstrap
from stages.shared.params import Section

IMAGES = "images."  # before a column of data/assess/images.csv
Verdict = Literal["holds", "fails", "undecided", "missing", "not measurable"]
Finding = Gain | Literal["missing", "not measurable"]
Rows = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class Part(Section):
    """A comparison; rows are written <table>/<row>, and several of them count by their mean."""

    better: Rows = Field(min_length=1)
    worse: Rows = Field(min_length=1)
    measure: str
    beyond: Rows = Field(default=[])  # measures that it must gain more than, in the mean
    kind: Literal["greater", "not-worse"] = "greater"


class Filtered(Section):
    """A comparison of the images that the filter kept with those that it dropped."""

    row: str
    column: str


class Claim(Section):
    text: str
    source: str  # where the paper says so, or what is added to it
    parts: list[Part | Filtered] = Field(min_length=1)


class Claims(Section):
    title: str
    margin: float = Field(gt=0)  # points
    claims: dict[str, Claim]


def read_claims() -> Claims:
    return parse(Claims, read_recipe("claims"), "claims")


def rows_of(part: Part | Filtered) -> list[str]:
    return [part.row] if isinstance(part, Filtered) else [*part.better, *part.worse]


def parts_of(claims: Claims) -> list[Part | Filtered]:
    return [part for claim in claims.claims.values() for part in claim.parts]


def check_names(part: Part | Filtered) -> None:
    """Raises BadInput for a misspelt measure, before anything runs for it; columns are known from the images alone."""
    if isinstance(part, Part):
        for name in [part.measure, *part.beyond]:
            if not name.startswith(IMAGES):
                check_measure(name)


def find_cases(claims: Claims, preset: Tree) -> dict[str, Case]:
    """All rows that the claims compare, by <table>/<row>."""
    wanted = dict.fromkeys(row for part in parts_of(claims) for row in rows_of(part))
    tables = dict.fromkeys(row.partition("/")[0] for row in wanted)
    known = {f"{table}/{case.name}": case for table in tables for case in cases(table, preset)}
    if unknown := [row for row in wanted if row not in known]:
        raise BadInput(
            f"experiments/tables/claims.yaml: there is no row {unknown[0]!r}; write <table>/<row>"
        )
    for part in parts_of(claims):
        check_names(part)
        if blind := [row for row in rows_of(part) if target_of(part) not in known[row].targets]:
            raise BadInput(
                f"experiments/tables/claims.yaml: {blind[0]!r} does not run {target_of(part)}; take another row"
            )
    return {row: known[row] for row in wanted}


def target_of(part: Part | Filtered) -> Target:
    """The stage whose inputs or outputs the comparison reads."""
    return "assess" if isinstance(part, Filtered) or part.measure.startswith(IMAGES) else "evaluate"


def measure(part: Part | Filtered, runs: dict[str, tuple[Run, Case]], count: int) -> Gain:
    """`runs` holds the part's rows."""
    if isinstance(part, Filtered):
        return compare_kept(runs[part.row][0].images(), part.column, count)
    if part.measure.startswith(IMAGES):
        above, below = (
            [runs[row][0].images() for row in rows] for rows in (part.better, part.worse)
        )
        return compare_images(above, below, part.measure.removeprefix(IMAGES), count)
    better, worse = (
        [runs[row][0].side(runs[row][1].arm) for row in rows] for rows in (part.better, part.worse)
    )
    return compare(better, worse, part.measure, part.beyond, count)


def judge(difference: Gain, threshold: float) -> Verdict:
    """`threshold`: what the difference must lie above, in points."""
    if difference.low > threshold:
        return "holds"
    return "fails" if difference.high < threshold else "undecided"


def conclude(verdicts: list[Verdict]) -> Verdict:
    """A claim's verdict by its parts': one that fails decides, then a missing one; the unmeasurable do not count."""
    decisive: tuple[Verdict, ...] = ("fails", "missing", "undecided", "holds")
    return next((verdict for verdict in decisive if verdict in verdicts), "not measurable")


def read_findings(earlier: Tree) -> dict[str, Finding]:
    """What an earlier metrics/claims.json has found, by the parts' marks; what was missing is to be found yet."""
    parts = [part for claim in earlier.get("claims", {}).values() for part in claim["parts"]]
    measured: dict[str, Finding] = {
        p["mark"]: Gain(*p["difference"]) for p in parts if p["difference"]
    }
    return measured | {
        part["mark"]: part["verdict"] for part in parts if part.get("verdict") == "not measurable"
    }


class Docket:
    """The claims with their rows, and what is known of each: experiments that are there, parts measured earlier."""

    def __init__(self, claims: Claims, preset: Tree, stages: Stages, earlier: Tree):
        self.claims, self.stages = claims, stages
        self.cases = find_cases(claims, preset)
        self.count: int = preset["evaluate"]["bootstrap"]
        self.earlier = read_findings(earlier)
        self.code = [
            digest(Path(str(module.__file__)))
            for module in (evidence, revisions, accuracy, bootstrap)
        ]
        self.marks = {
            (row, target): marks(case._replace(targets=(target,)), stages)
            for row, case in self.cases.items()
            for target in case.targets
        }

    def mark(self, part: Part | Filtered) -> str:
        """A fingerprint of the comparison, the code that makes it, and what it reads of its rows' experiments."""
        rows = {
            row: [self.marks[row, target_of(part)][0], self.cases[row].arm] for row in rows_of(part)
        }
        text = json.dumps([part.model_dump(), rows, self.code, self.count], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    def serving(self, part: Part | Filtered, there: Collection[str]) -> dict[str, str | None]:
        """The fingerprint of each row's experiment: one that has run the part's target, alone or not."""
        marks = {row: self.marks[row, target_of(part)] for row in rows_of(part)}
        return {
            row: next((mark for mark in own if mark in there), None) for row, own in marks.items()
        }

    def lacking(self, there: Collection[str]) -> list[Case]:
        """The rows without an experiment, of the parts that were not measured earlier."""
        parts = [part for part in parts_of(self.claims) if self.mark(part) not in self.earlier]
        rows = [
            row for part in parts for row, mark in self.serving(part, there).items() if mark is None
        ]
        return [self.cases[row] for row in dict.fromkeys(rows)]

    def measure(self, part: Part | Filtered, there: dict[str, str]) -> Finding:
        """`there`: git refs by fingerprint."""
        if (mark := self.mark(part)) in self.earlier:
            return self.earlier[mark]
        found = self.serving(part, there)
        if None in found.values():
            return "missing"
        runs = {
            row: (open_run(there[mark]), self.cases[row]) for row, mark in found.items() if mark
        }
        try:
            return measure(part, runs, self.count)
        except Unmeasurable:
            return "not measurable"

    def report(self, part: Part | Filtered, there: dict[str, str]) -> Tree:
        finding = self.measure(part, there)
        lenient = isinstance(part, Part) and part.kind == "not-worse"
        threshold = -self.claims.margin if lenient else 0.0
        difference = finding if isinstance(finding, Gain) else None
        verdict = judge(finding, threshold) if isinstance(finding, Gain) else finding
        return part.model_dump() | {
            "difference": difference,
            "verdict": verdict,
            "mark": self.mark(part),
        }

    def content(self, there: dict[str, str]) -> Tree:
        """What metrics/claims.json holds."""
        reports = {
            key: [
                self.report(part, there)
                for part in tqdm(claim.parts, desc=f"claim {key}", leave=False)
            ]
            for key, claim in self.claims.claims.items()
        }
        claims = {
            key: {
                "text": claim.text,
                "source": claim.source,
                "parts": reports[key],
                "verdict": conclude([part["verdict"] for part in reports[key]]),
            }
            for key, claim in self.claims.claims.items()
        }
        return {"title": self.claims.title, "margin": self.claims.margin, "claims": claims}

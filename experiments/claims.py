"""The paper's claims as comparisons between rows of the tables: reads experiments/claims.yaml and the rows' runs.

A part of a claim holds where the 95 % interval of its difference lies above zero (for `not-worse`: above minus the
margin), fails where it lies below, and is undecided between. A claim holds where all of its parts hold, and fails where
one fails. Writes metrics/claims.json and metrics/claims.md.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from tqdm import tqdm

from experiments import evidence
from experiments.evidence import Difference, compare, compare_images, compare_kept
from experiments.fingerprint import DIGITS, Stages, digest
from experiments.plans import marks, serving
from experiments.recipes import Case, Tree, cases, parse, read_recipe
from experiments.results import write_json
from experiments.revisions import Run, open_run
from stages.shared import bootstrap, measures
from stages.shared.errors import BadInput
from stages.shared.params import Section

IMAGES = "images."  # before a column of data/assess/images.csv
Verdict = Literal["holds", "fails", "undecided", "missing"]
Rows = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]


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


def find_cases(claims: Claims, preset: Tree) -> dict[str, Case]:
    """All rows that the claims compare, by <table>/<row>."""
    wanted = dict.fromkeys(row for claim in claims.claims.values() for part in claim.parts for row in rows_of(part))
    tables = dict.fromkeys(row.partition("/")[0] for row in wanted)
    known = {f"{table}/{case.name}": case for table in tables for case in cases(table, preset)}
    if unknown := [row for row in wanted if row not in known]:
        raise BadInput(f"experiments/claims.yaml: there is no row {unknown[0]!r}; write <table>/<row>")
    for part in [part for claim in claims.claims.values() for part in claim.parts]:
        if blind := [row for row in rows_of(part) if target_of(part) not in known[row].targets]:
            raise BadInput(f"experiments/claims.yaml: {blind[0]!r} does not run {target_of(part)}; take another row")
    return {row: known[row] for row in wanted}


def target_of(part: Part | Filtered) -> str:
    """The stage whose inputs or outputs the comparison reads."""
    return "assess" if isinstance(part, Filtered) or part.measure.startswith(IMAGES) else "evaluate"


def measure(part: Part | Filtered, runs: dict[str, tuple[Run, Case]], count: int) -> Difference:
    """`runs` holds the part's rows."""
    if isinstance(part, Filtered):
        return compare_kept(runs[part.row][0].images(), part.column, count)
    if part.measure.startswith(IMAGES):
        above, below = ([runs[row][0].images() for row in rows] for rows in (part.better, part.worse))
        return compare_images(above, below, part.measure.removeprefix(IMAGES), count)
    better, worse = ([runs[row][0].side(runs[row][1].arm) for row in rows] for rows in (part.better, part.worse))
    return compare(better, worse, part.measure, part.beyond, count)


def judge(difference: Difference, threshold: float) -> Verdict:
    """`threshold`: what the difference must lie above, in points."""
    if difference.low > threshold:
        return "holds"
    return "fails" if difference.high < threshold else "undecided"


def conclude(verdicts: list[Verdict]) -> Verdict:
    """A claim's verdict by its parts': one that fails decides, then one that is missing."""
    decisive: tuple[Verdict, ...] = ("fails", "missing", "undecided")
    return next((verdict for verdict in decisive if verdict in verdicts), "holds")


class Docket:
    """The claims with their rows, and what is known of each: experiments that are there, parts measured earlier."""

    def __init__(self, claims: Claims, preset: Tree, stages: Stages, earlier: Tree):
        self.claims, self.stages = claims, stages
        self.cases = find_cases(claims, preset)
        self.count: int = preset["evaluate"]["bootstrap"]
        parts = [part for claim in earlier.get("claims", {}).values() for part in claim["parts"]]
        self.earlier = {part["mark"]: Difference(*part["difference"]) for part in parts if part["difference"]}
        self.marks = {row: marks(case, stages) for row, case in self.cases.items()}

    def mark(self, part: Part | Filtered) -> str:
        """A fingerprint of the comparison, the code that makes it, and its rows' experiments."""
        rows = {row: [self.marks[row][0], self.cases[row].arm] for row in rows_of(part)}
        code = [digest(Path(module.__file__)) for module in (evidence, measures, bootstrap) if module.__file__]
        text = json.dumps([part.model_dump(), rows, code, self.count], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    def needed(self) -> list[Case]:
        """The rows of all parts that were not measured earlier."""
        parts = [part for claim in self.claims.claims.values() for part in claim.parts]
        rows = [row for part in parts if self.mark(part) not in self.earlier for row in rows_of(part)]
        return [self.cases[row] for row in dict.fromkeys(rows)]

    def measure(self, part: Part | Filtered, there: dict[str, str]) -> Difference | None:
        """None where an experiment is missing; `there`: git refs by fingerprint."""
        if (mark := self.mark(part)) in self.earlier:
            return self.earlier[mark]
        found = {row: serving(self.cases[row], self.stages, there) for row in rows_of(part)}
        if None in found.values():
            return None
        runs = {row: (open_run(there[mark]), self.cases[row]) for row, mark in found.items() if mark}
        return measure(part, runs, self.count)

    def report(self, part: Part | Filtered, there: dict[str, str]) -> Tree:
        difference = self.measure(part, there)
        lenient = isinstance(part, Part) and part.kind == "not-worse"
        threshold = -self.claims.margin if lenient else 0.0
        verdict = "missing" if difference is None else judge(difference, threshold)
        return part.model_dump() | {"difference": difference, "verdict": verdict, "mark": self.mark(part)}

    def content(self, there: dict[str, str]) -> Tree:
        """What metrics/claims.json holds."""
        reports = {
            key: [self.report(part, there) for part in tqdm(claim.parts, desc=f"claim {key}", leave=False)]
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


def render(content: Tree, preset: str, trials: int) -> str:
    """The verdicts, and under them what they rest on, as Markdown."""
    verdicts = [["", "claim", "source", "verdict"], ["---"] * 4]
    parts = [["", "compared", "measure", "difference (points)", "verdict"], ["---"] * 5]
    for key, claim in content["claims"].items():
        verdicts.append([key, claim["text"], claim["source"], claim["verdict"]])
        parts += [[key, *describe(part), show(part["difference"]), part["verdict"]] for part in claim["parts"]]
    note = f"""Preset {preset}, {trials} trial{"s" * (trials != 1)}; [95 % interval] of a paired bootstrap over trials
        and test images. A part holds where its interval lies above 0 (of `not worse`: above -{content["margin"]:g}),
        fails where it lies below, and is undecided between; a claim holds where all of its parts hold, and fails where
        one fails."""
    tables = ["\n".join(f"| {' | '.join(line)} |" for line in lines) for lines in (verdicts, parts)]
    return "\n\n".join([f"# {content['title']}", tables[0], " ".join(note.split()), tables[1]]) + "\n"


def describe(part: Tree) -> list[str]:
    """What is compared, and by which measure."""
    if "row" in part:
        return [f"{part['row']}: kept > dropped", f"images.{part['column']}"]
    sign = "not worse than" if part["kind"] == "not-worse" else ">"
    beyond = f", beyond the mean of {', '.join(part['beyond'])}" if part["beyond"] else ""
    return [f"{name_rows(part['better'])} {sign} {name_rows(part['worse'])}", part["measure"] + beyond]


def name_rows(rows: list[str]) -> str:
    return rows[0] if len(rows) == 1 else f"the mean of {', '.join(rows)}"


def show(difference: Difference | None) -> str:
    return "" if difference is None else "{:+g} [{:g}, {:g}]".format(*difference)


def write(content: Tree, path: Path, preset: str, trials: int) -> None:
    write_json(path, content | {"preset": preset, "trials": trials})
    path.with_suffix(".md").write_text(render(content, preset, trials))

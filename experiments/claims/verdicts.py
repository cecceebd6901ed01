"""The verdicts on the paper's claims, by the runs of the rows that they compare.

A part of a claim holds where the 95 % interval of its difference lies above zero (for `not-worse`:
above minus the margin), fails where it lies below, and is undecided between. A claim holds where
all of its parts hold, and fails where one fails. A part that the dataset has no images for does not
count.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Literal, NamedTuple

from tqdm import tqdm

from experiments.claims import evidence, revisions
from experiments.claims.evidence import (
    Gain,
    Unmeasurable,
    compare,
    compare_images,
    compare_kept,
)
from experiments.claims.revisions import Run, open_run
from experiments.claims.schema import (
    IMAGES,
    Claims,
    Filtered,
    Part,
    find_cases,
    parts_of,
    rows_of,
    target_of,
)
from experiments.commands import current_commit
from experiments.running.fingerprint import DIGITS, Stages
from experiments.running.plans import fingerprints_of
from experiments.tables.recipes import Case, Tree
from stages.shared.hashes import digest
from stages.shared.measuring import accuracy, bootstrap

Verdict = Literal["holds", "fails", "undecided", "missing", "not measurable"]


class Finding(NamedTuple):
    """What a comparison gave, and the commit whose code made it: None of a missing one."""

    result: Gain | Literal["missing", "not measurable"]
    commit: str | None


MISSING = Finding("missing", None)


def compare_part(part: Part | Filtered, runs: dict[str, tuple[Run, Case]], count: int) -> Gain:
    """The part's difference, by `count` resamples; `runs` holds the part's rows.

    Raises Unmeasurable where the dataset has no images for it.
    """
    if isinstance(part, Filtered):
        run, _ = runs[part.row]
        return compare_kept(run.read_images(), part.column, count)

    better = [runs[row] for row in part.better]
    worse = [runs[row] for row in part.worse]

    if part.measure.startswith(IMAGES):
        return compare_images(
            [run.read_images() for run, _ in better],
            [run.read_images() for run, _ in worse],
            part.measure.removeprefix(IMAGES),
            count,
        )

    return compare(
        [run.read_side(case.arm) for run, case in better],
        [run.read_side(case.arm) for run, case in worse],
        part.measure,
        part.beyond,
        count,
    )


def judge(difference: Gain, threshold: float) -> Verdict:
    """A part's verdict; `threshold`: what the difference must lie above, in points."""
    if difference.low > threshold:
        return "holds"

    return "fails" if difference.high < threshold else "undecided"


def conclude(verdicts: list[Verdict]) -> Verdict:
    """A claim's verdict by its parts' verdicts.

    One that fails decides, then a missing one. The unmeasurable ones do not count.
    """
    decisive: tuple[Verdict, ...] = ("fails", "missing", "undecided", "holds")
    return next((verdict for verdict in decisive if verdict in verdicts), "not measurable")


def read_findings(earlier: Tree) -> dict[str, Finding]:
    """What an earlier metrics/claims.json has found, by the parts' fingerprints.

    Missing parts are left out, because they are still to be found.
    """
    findings = {}
    for claim in earlier.get("claims", {}).values():
        for part in claim["parts"]:
            own = part.get("fingerprint", "")
            if part["difference"]:
                findings[own] = Finding(Gain(*part["difference"]), part.get("commit"))
            elif part["verdict"] == "not measurable":
                findings[own] = Finding("not measurable", part.get("commit"))

    return findings


class ClaimBook:
    """The claims with their rows, and what an earlier metrics/claims.json has found of them.

    The methods take the finished experiments by fingerprint.
    """

    def __init__(self, claims: Claims, preset: Tree, stages: Stages, earlier: Tree):
        self.claims = claims
        self.cases = find_cases(claims, preset)
        self.count: int = preset["evaluate"]["bootstrap"]
        self.earlier = read_findings(earlier)
        self.commit = current_commit()

        modules = (evidence, revisions, accuracy, bootstrap)
        self.code = [digest(Path(str(module.__file__))) for module in modules]

        # Fingerprints of the experiments that serve a row's target: first of the one that has no
        # other target.
        self.experiments = {
            (row, target): fingerprints_of(case._replace(targets=(target,)), stages)
            for row, case in self.cases.items()
            for target in case.targets
        }

    def fingerprint(self, part: Part | Filtered) -> str:
        """A hash of the comparison, the code that makes it, and what it reads of its rows."""
        target = target_of(part)
        rows = {
            row: [self.experiments[row, target][0], self.cases[row].arm] for row in rows_of(part)
        }
        text = json.dumps([part.model_dump(), rows, self.code, self.count], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]

    def find_serving(
        self, part: Part | Filtered, finished: Collection[str]
    ) -> dict[str, str | None]:
        """The fingerprint of an experiment for each row of the part; None where none is finished.

        An experiment serves if it has run the part's target, alone or with others.
        """
        target = target_of(part)
        by_row: dict[str, str | None] = {}
        for row in rows_of(part):
            known = [name for name in self.experiments[row, target] if name in finished]
            by_row[row] = known[0] if known else None

        return by_row

    def lacking(self, finished: Collection[str]) -> list[Case]:
        """The rows without an experiment, of the parts that were not found earlier."""
        rows: dict[str, Case] = {}
        for part in parts_of(self.claims):
            if self.fingerprint(part) in self.earlier:
                continue

            for row, experiment in self.find_serving(part, finished).items():
                if experiment is None:
                    rows[row] = self.cases[row]

        return list(rows.values())

    def find(self, part: Part | Filtered, finished: dict[str, str]) -> Finding:
        """What the part gives, made now or found earlier; `finished` holds git refs."""
        fingerprint = self.fingerprint(part)
        if fingerprint in self.earlier:
            return self.earlier[fingerprint]

        by_row = self.find_serving(part, finished)
        if None in by_row.values():
            return MISSING

        runs = {
            row: (open_run(finished[experiment]), self.cases[row])
            for row, experiment in by_row.items()
            if experiment is not None
        }
        try:
            return Finding(compare_part(part, runs, self.count), self.commit)
        except Unmeasurable:
            return Finding("not measurable", self.commit)

    def report(self, part: Part | Filtered, finished: dict[str, str]) -> Tree:
        """What metrics/claims.json holds of a part."""
        result, commit = self.find(part, finished)

        difference = None
        verdict: Verdict
        if isinstance(result, Gain):
            lenient = isinstance(part, Part) and part.kind == "not-worse"
            difference = result
            verdict = judge(result, -self.claims.margin if lenient else 0.0)
        else:
            verdict = result

        return part.model_dump() | {
            "commit": commit,
            "difference": difference,
            "fingerprint": self.fingerprint(part),
            "verdict": verdict,
        }

    def content(self, finished: dict[str, str]) -> Tree:
        """What metrics/claims.json holds."""
        claims = {}
        for key, claim in self.claims.claims.items():
            bar = tqdm(claim.parts, desc=f"claim {key}", leave=False)
            parts = [self.report(part, finished) for part in bar]
            claims[key] = {
                "text": claim.text,
                "source": claim.source,
                "parts": parts,
                "verdict": conclude([part["verdict"] for part in parts]),
            }

        return self.claims.model_dump(include={"title", "note", "margin"}) | {"claims": claims}

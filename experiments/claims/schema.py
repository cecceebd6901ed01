"""The paper's claims as comparisons between rows of the tables: experiments/tables/claims.yaml."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from experiments.claims.evidence import CLAIMS_FILE, check_measure
from experiments.tables.recipes import Case, Target, Tree, cases, parse, read_recipe
from stages.shared.errors import BadInput
from stages.shared.params import Section

IMAGES = "images."  # before a column of data/assess/images.csv
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
    """A claim in words, and the comparisons that it stands or falls with."""

    text: str
    source: str  # where the paper says so, or what is added to it
    parts: list[Part | Filtered] = Field(min_length=1)


class Claims(Section):
    """The whole file."""

    title: str
    note: str = ""
    margin: float = Field(gt=0)  # points
    claims: dict[str, Claim]


def read_claims() -> Claims:
    """The claims; raises BadInput for a file that does not fit."""
    return parse(Claims, read_recipe("claims"), "claims")


def rows_of(part: Part | Filtered) -> list[str]:
    """The rows that a part compares."""
    return [part.row] if isinstance(part, Filtered) else [*part.better, *part.worse]


def parts_of(claims: Claims) -> list[Part | Filtered]:
    """The parts of all claims."""
    return [part for claim in claims.claims.values() for part in claim.parts]


def target_of(part: Part | Filtered) -> Target:
    """The stage whose inputs or outputs the part reads."""
    reads_images = isinstance(part, Filtered) or part.measure.startswith(IMAGES)
    return "assess" if reads_images else "evaluate"


def check_names(part: Part | Filtered) -> None:
    """Raises BadInput for a misspelt measure, before anything runs for it.

    Columns of images cannot be checked here: they are known from the images alone.
    """
    if isinstance(part, Filtered):
        return

    for name in [part.measure, *part.beyond]:
        if not name.startswith(IMAGES):
            check_measure(name)


def find_cases(claims: Claims, preset: Tree) -> dict[str, Case]:
    """All rows that the claims compare, by <table>/<row>.

    Raises BadInput for an unknown row or measure, and for a row whose experiment does not run what
    a part reads.
    """
    wanted = dict.fromkeys(row for part in parts_of(claims) for row in rows_of(part))
    tables = dict.fromkeys(row.partition("/")[0] for row in wanted)
    known = {f"{table}/{case.name}": case for table in tables for case in cases(table, preset)}
    if unknown := [row for row in wanted if row not in known]:
        raise BadInput(f"{CLAIMS_FILE}: there is no row {unknown[0]!r}; write <table>/<row>")

    for part in parts_of(claims):
        check_names(part)
        target = target_of(part)
        if without := [row for row in rows_of(part) if target not in known[row].targets]:
            raise BadInput(f"{CLAIMS_FILE}: {without[0]!r} does not run {target}; take another row")

    return {row: known[row] for row in wanted}

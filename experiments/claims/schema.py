"""The paper's claims as comparisons between rows of the tables: experiments/tables/claims.yaml."""

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from experiments.claims.analysis import Kind
from experiments.tables.recipes import Case, Target, Tree, cases, parse, read_recipe
from stages.shared.errors import BadInput
from stages.shared.params import Section

CLAIMS_FILE = "experiments/tables/claims.yaml"
GROUPS = ("landbird_land", "landbird_water", "waterbird_land", "waterbird_water")
# by name: the file in metrics/ and the path in it, where {arm} stands for the row's
MEASURES = {
    **{name: f"evaluate arms.{{arm}}.{name}" for name in ("top1", "many", "medium", "few")},
    "waterbird_average": "evaluate arms.{arm}.waterbird.average",
    "waterbird_worst": "evaluate arms.{arm}.waterbird.worst",
    **{name: f"evaluate arms.{{arm}}.waterbird.groups.{name}" for name in GROUPS},
    "faithful": "assess faithfulness.all",
    "background_kept": "assess background.kept.all",
    "filter_gain": "assess faithfulness.filter_gain",
}
Names = Annotated[
    list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)
]


class Part(Section):
    """A comparison: the better rows' mean less the worse rows', of which there may be none.

    Rows are written <table>/<row>. Several measures count by their mean.
    """

    label: str  # in the figure
    better: Names = Field(min_length=1)
    worse: Names = Field(default=[])
    measure: Names = Field(min_length=1)
    beyond: Names = Field(default=[])  # measures that it must gain more than, in the mean
    kind: Kind = "greater"
    margin: float | None = Field(default=None, gt=0)  # points; None: the claims' own

    @field_validator("measure", "beyond")
    @classmethod
    def check_measures(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in MEASURES:
                raise ValueError(f"{name!r} is none of {', '.join(MEASURES)}")
        return names


class Claim(Section):
    """A claim in words, and the comparisons that it stands or falls with."""

    text: str  # what is tested
    source: str  # where the paper says so, or what is added to it
    paper: str = ""  # its own words; none for what is added to it
    parts: list[Part] = Field(min_length=1)


class Claims(Section):
    """The whole file."""

    title: str
    note: str = ""
    replicates: int = Field(ge=2)
    level: float = Field(gt=0, lt=1)  # of a claim's verdict, over the claims of its family
    margin: float = Field(gt=0)  # points
    claims: dict[str, Claim]


def read_claims() -> Claims:
    """The claims; raises BadInput for a file that does not fit."""
    return parse(Claims, read_recipe("claims"), "claims")


def rows_of(part: Part) -> list[str]:
    """The rows that a part compares."""
    return [*part.better, *part.worse]


def targets_of(part: Part) -> set[Target]:
    """The stages whose metrics the part reads."""
    files = {MEASURES[name].split(" ")[0] for name in [*part.measure, *part.beyond]}
    return files  # type: ignore[return-value]


def find_cases(claims: Claims, preset: Tree) -> dict[str, Case]:
    """All rows that the claims compare, by <table>/<row>.

    Raises BadInput for an unknown row, and for one whose experiment does not run what a part reads.
    """
    parts = [part for claim in claims.claims.values() for part in claim.parts]
    wanted = dict.fromkeys(row for part in parts for row in rows_of(part))
    tables = dict.fromkeys(row.partition("/")[0] for row in wanted)
    known = {f"{table}/{case.name}": case for table in tables for case in cases(table, preset)}
    if unknown := [row for row in wanted if row not in known]:
        raise BadInput(f"{CLAIMS_FILE}: there is no row {unknown[0]!r}; write <table>/<row>")

    for part in parts:
        for row in rows_of(part):
            if lacking := targets_of(part) - set(known[row].targets):
                raise BadInput(
                    f"{CLAIMS_FILE}: {row!r} does not run {lacking.pop()}; take another row"
                )

    return {row: known[row] for row in wanted}

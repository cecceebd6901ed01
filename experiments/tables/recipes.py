"""The paper's tables and figures as parameter changes: the rows of experiments/tables/<name>.yaml.

A row is one arm of one experiment; rows with equal parameters share the experiment. A grid is a
list of axes, and every combination of their entries is a row, named by the entries' names.
"""

import copy
import itertools
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import Field, ValidationError

from stages.shared.errors import BadInput
from stages.shared.params import Section, read

FOLDER = Path(__file__).parent
PRESETS = Path("presets")
OF_THE_ROW = ("arm", "arms", "targets")  # what an axis' entry says beside parameters
Target = Literal["evaluate", "assess"]
Changes = dict[str, Any]  # dotted path of a parameter, or of a new arm, to its value
Tree = dict[str, Any]
Printed = dict[str, float | int]  # the paper's numbers, by its columns


class Row(Section):
    """A row: its parameter changes, and what it reads of its experiment."""

    name: str = Field(min_length=1)
    set: Changes = Field(default={})
    arm: str | None = None  # the arm that the row reads
    arms: list[str] | None = None
    targets: list[Target] | None = None
    paper: Printed = Field(default={})


class Table(Section):
    """One file: what all rows share, and the rows."""

    title: str
    note: str = ""
    replicates: int = Field(default=1, ge=1)  # runs of each row, see replicates.py
    set: Changes = Field(default={})
    arms: list[str] = Field(min_length=1)  # the arms to keep, of the preset's and of `set`'s
    arm: str
    targets: list[Target] = Field(min_length=1)
    columns: dict[str, str]  # "<file in metrics/> <path in it>", where {arm} stands for the row's
    rows: list[Row] = Field(default=[])
    grids: list[list[dict[str, Changes]]] = Field(default=[])
    paper: dict[str, Printed] = Field(default={})  # as a row's, by the name of a row of the grids


class Case(NamedTuple):
    """A row with all that its experiment needs."""

    table: str
    name: str
    arm: str
    targets: tuple[Target, ...]
    params: Tree
    paper: Printed


def read_recipe(name: str) -> Tree:
    """The content of experiments/tables/<name>.yaml."""
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise BadInput(
            f"experiments/tables/{name}.yaml: there is no such file; take one of {known}"
        )
    return yaml.safe_load(path.read_text())


def parse(model: type[Section], tree: Tree, name: str) -> Any:
    """The file's content, checked; raises BadInput, naming the first thing that is wrong."""
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(
            f"experiments/tables/{name}.yaml: {where}: {first['msg']}; fix the file"
        ) from None


def read_table(name: str) -> Table:
    return parse(Table, read_recipe(name), name)


def read_preset(name: str) -> Tree:
    """The parameters that all rows change."""
    path = PRESETS / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in PRESETS.glob("*.yaml")))
        raise BadInput(f"PRESET: there is no {path}; take one of {known}")
    return read(path)


def expand(table: Table) -> Iterator[Row]:
    """The file's own rows, then those of its grids."""
    yield from table.rows
    for axes in table.grids:
        for entries in itertools.product(*(axis.items() for axis in axes)):
            name = " ".join(word for word, _ in entries)
            merged: Changes = {path: value for _, entry in entries for path, value in entry.items()}

            own = {word: merged.pop(word) for word in OF_THE_ROW if word in merged}
            yield Row(name=name, set=merged, paper=table.paper.get(name, {}), **own)


def cases(name: str, preset: Tree, patterns: Iterable[str] = ()) -> list[Case]:
    """The table's rows with their parameters, or those whose names match a pattern."""
    table = read_table(name)
    rows = list(expand(table))
    names = [row.name for row in rows]
    check_names(name, table, names)

    patterns = list(patterns)
    for pattern in patterns:
        if not any(fnmatchcase(row, pattern) for row in names):
            raise BadInput(
                f"experiments/tables/{name}.yaml: no row matches {pattern!r}; "
                f"it has {', '.join(names)}"
            )

    chosen = rows
    if patterns:
        chosen = [row for row in rows if any(fnmatchcase(row.name, each) for each in patterns)]
    return [resolve(name, table, row, preset) for row in chosen]


def check_names(name: str, table: Table, rows: list[str]) -> None:
    """Raises BadInput for two rows of one name, and for printed numbers of a row that is none."""
    if twice := [row for row in rows if rows.count(row) > 1]:
        raise BadInput(
            f"experiments/tables/{name}.yaml: row {twice[0]!r} appears twice; name one otherwise"
        )
    if unknown := sorted(set(table.paper) - set(rows)):
        raise BadInput(
            f"experiments/tables/{name}.yaml: paper: there is no row {unknown[0]!r}; "
            "name it as its grid does"
        )


def resolve(name: str, table: Table, row: Row, preset: Tree) -> Case:
    """The row with the preset's parameters, changed as table and row say."""
    where = f"experiments/tables/{name}.yaml: {row.name}"
    params = copy.deepcopy(preset)
    for path, value in (table.set | row.set).items():
        change(params, path, copy.deepcopy(value), where)

    arm = row.arm or table.arm
    keep_arms(params, row.arms or table.arms, where)
    if not any(arm in group for group in params["arms"].values()):
        raise BadInput(f"{where}: arm {arm!r} is not among its arms; add it there")

    targets = tuple(sorted(row.targets or table.targets))
    return Case(name, row.name, arm, targets, params, row.paper)


def change(params: Tree, path: str, value: Any, where: str) -> None:
    """Set one parameter, or add an arm, arms.<group>.<name>.

    An arm that the preset has stays as it is there.
    """
    *parents, leaf = path.split(".")
    node: Any = params
    for parent in parents:
        node = node.get(parent) if isinstance(node, dict) else None

    new_arm = parents[:1] == ["arms"] and len(parents) == 2
    if not isinstance(node, dict) or (leaf not in node and not new_arm):
        raise BadInput(f"{where}: {path} is no parameter of the preset; fix its name")
    if not (new_arm and leaf in node):
        node[leaf] = value


def keep_arms(params: Tree, names: list[str], where: str) -> None:
    """Remove all other arms: what no row reads need not be trained."""
    known = [arm for group in params["arms"].values() for arm in group]
    if missing := [name for name in names if name not in known]:
        raise BadInput(
            f"{where}: there is no arm {missing[0]!r} among {', '.join(known)}; add it with `set`"
        )

    kept = {}
    for group, arms in params["arms"].items():
        kept[group] = {arm: value for arm, value in arms.items() if arm in names}
    params["arms"] = kept

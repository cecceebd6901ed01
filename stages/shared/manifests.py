"""What tables list: manifest.csv and classes.csv, checked when they are read.

A manifest has a row for each image: key, shard, offset, size, label, then the table's own columns.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.files import write_csv

SHARD_NAME = re.compile(r"shard-\d{5,}\.tar")  # no path: nothing outside a table's folder is read
COLUMNS = ["key", "shard", "offset", "size", "label"]
CLASS_COLUMNS = ["index", "name", "metaclass", "token"]
TEXT = {"key": str, "shard": str, "source_key": str, "group": str}
LEAST = {"offset": 0, "size": 1, "label": 0, "source_label": -1, "target_label": 0}  # whole numbers
LARGEST = 2**53  # of a whole number: the sum of two still fits into 64 bits
FINITE = ("strength", "score")
WHOLE = r"[-+]?[0-9]{1,18}"
NUMBER = r"[-+]?[0-9]{0,20}\.?[0-9]{1,20}([eE][-+]?[0-9]{1,2})?"
REMAKE = "make the table anew with `dvc repro -f`"


def read_manifest(
    folder: Path,
    columns: Sequence[str] = (),
    name: str = "manifest.csv",
    classes: int | None = None,
) -> pd.DataFrame:
    """The rows of a table: all columns present, keys unique, numbers in range.

    Labels are below `classes`, where that is given. A manifest may list rows of a table that lies
    elsewhere (subsample, filter); `Table` checks the shards. Raises BadInput.
    """
    path = folder / name
    if not path.is_file():
        raise BadInput(f"{path}: there is no such table; run `dvc repro` (or `dvc checkout`) first")

    rows = _read_csv(path, TEXT, REMAKE)

    missing = [column for column in [*COLUMNS, *columns] if column not in rows.columns]
    if missing:
        raise BadInput(f"{path}: column {missing[0]!r} is missing; {REMAKE}")
    repeated = rows["key"].duplicated()
    if repeated.any():
        raise BadInput(f"{path}: key {rows.loc[repeated, 'key'].iloc[0]!r} appears twice")
    _check_columns(rows, path, classes)

    return rows


def _read_csv(path: Path, types: Mapping[str, type], cure: str) -> pd.DataFrame:
    """The rows of a file with a header; raises BadInput for a file that is no such thing."""
    try:
        rows = pd.read_csv(
            path,
            dtype=types,  # type: ignore[arg-type]
            keep_default_na=False,
            low_memory=False,
        )
    except (OSError, ValueError) as error:
        # ValueError: of pandas' parser, and of text that is not UTF-8
        raise BadInput(f"{path}: cannot be read ({' '.join(str(error).split())}); {cure}") from None

    if not isinstance(rows.index, pd.RangeIndex):  # pandas would take the first column for an index
        raise BadInput(f"{path}: line 2 has more fields than the header; {cure}")

    return rows


def _check_columns(rows: pd.DataFrame, path: Path, classes: int | None) -> None:
    """Raises BadInput, naming the line, for a row that no stage can have written.

    For speed a column at a time, and of the shards each name once.
    """
    if rows.empty:
        return

    codes, shards = pd.factorize(rows["shard"])
    strange = [not SHARD_NAME.fullmatch(str(shard)) for shard in shards]
    _refuse(np.array(strange)[codes], rows["shard"], path, "is no shard of this table")

    for column in [name for name in LEAST if name in rows]:
        if not pd.api.types.is_integer_dtype(rows[column]):
            _refuse_text(path, column, WHOLE, "is no whole number of 18 digits at most")
        most = LARGEST if classes is None or "label" not in column else classes - 1
        outside = ((rows[column] < LEAST[column]) | (rows[column] > most)).to_numpy(bool)
        _refuse(outside, rows[column], path, f"is not within {LEAST[column]} and {most}")

    for column in [name for name in FINITE if name in rows]:
        if not pd.api.types.is_numeric_dtype(rows[column]):
            _refuse_text(path, column, NUMBER, "is no number")
        infinite = ~np.isfinite(rows[column].to_numpy(float))
        _refuse(infinite, rows[column], path, "is no finite number")


def _refuse_text(path: Path, column: str, pattern: str, reason: str) -> None:
    """Raises BadInput for the first cell that is not written as a number: it made the column text.

    The file is read again, since pandas may have changed how the cells are spelled.
    """
    cells = pd.read_csv(path, usecols=[column], dtype=str, keep_default_na=False)[column]
    _refuse(~cells.str.fullmatch(pattern).to_numpy(bool), cells, path, reason)


def _refuse(wrong: np.ndarray, cells: pd.Series, path: Path, reason: str) -> None:
    """Raises BadInput for the first cell that is wrong, if any is."""
    if not wrong.any():
        return

    row = int(wrong.argmax())
    raise BadInput(
        f"{path}: line {row + 2}: {cells.name} {shown(cells.iloc[row])} {reason}; {REMAKE}"
    )


def shown(value: object) -> str:
    """A value as a message quotes it: as text, and not at length."""
    text = str(value)
    return repr(text if len(text) <= 60 else f"{text[:40]}...{text[-10:]}")


def token_name(index: int) -> str:
    """The identifier V_i of a class: plain letters, whatever the class is called."""
    return f"<class-{index:04d}>"


def write_classes(folder: Path, names: Sequence[str], metaclass: str) -> None:
    classes = pd.DataFrame({"index": range(len(names)), "name": names, "metaclass": metaclass})
    classes["token"] = [token_name(index) for index in range(len(names))]
    write_csv(folder / "classes.csv", classes)


def read_classes(folder: Path) -> pd.DataFrame:
    """The columns index, name, metaclass and token of each class; raises BadInput.

    Only this file spells the classes: everywhere else they are their indices.
    """
    path = folder / "classes.csv"
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro download` first")

    cure = "run `dvc repro -f download`"
    classes = _read_csv(path, {"name": str, "metaclass": str, "token": str}, cure)
    if list(classes.columns) != CLASS_COLUMNS:
        raise BadInput(f"{path}: columns must be {', '.join(CLASS_COLUMNS)}; {cure}")
    if classes.empty:
        raise BadInput(f"{path}: lists no class; {cure}")

    # tokens too, since finetune's files are called by them
    for row, (index, token) in enumerate(zip(classes["index"], classes["token"], strict=True)):
        if str(index) != str(row) or token != token_name(row):
            raise BadInput(
                f"{path}: line {row + 2}: must be class {row} with token {token_name(row)}; {cure}"
            )

    repeated = classes.loc[classes["name"].duplicated(), "name"]
    if not repeated.empty:
        raise BadInput(f"{path}: class {shown(repeated.iloc[0])} appears twice; {cure}")

    return classes

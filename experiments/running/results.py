"""What the experiments have measured, beside the paper's numbers.

The files are metrics/paper/<table>.json and <table>.md. Values are read at the experiments' own
revisions; a row whose experiment does not exist is marked missing. A row that the file holds
already, with the same fingerprint, stands also in a clone, which has no experiments.
"""

import json
from pathlib import Path
from typing import Any

from experiments.commands import git
from experiments.markdown import markdown_table
from experiments.running.fingerprint import Stages
from experiments.running.plans import find_serving, fingerprints_of
from experiments.tables.recipes import Case, Table
from stages.shared.files import write_json
from stages.shared.paths import METRICS

FOLDER = METRICS / "paper"
DEFAULT_PRESET = "toybirds"  # whose results lie in FOLDER itself
COMMIT_DIGITS = 7
MEASURED = ("measured", "experiment", "fingerprint", "seconds", "commit")
Record = dict[str, Any]
Records = dict[str, dict[str, Record]]  # of an earlier table, by fingerprint and arm
Value = dict[str, Any]  # value and, where it has them, interval or deviation


def folder(preset: str) -> Path:
    return FOLDER if preset == DEFAULT_PRESET else FOLDER / preset


def read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else {}


def recorded(path: Path, columns: dict[str, str]) -> Records:
    """The measured rows of an earlier table; none where its columns were others."""
    content = read_json(path)
    if content.get("columns") != columns:
        return {}

    records: Records = {}
    for row in content["rows"]:
        if row["measured"] is not None:
            records.setdefault(row["fingerprint"], {})[row["arm"]] = row
    return records


def records_of(earlier: Records, arm: str) -> dict[str, Record]:
    """What is recorded of an arm, by fingerprint."""
    return {key: rows[arm] for key, rows in earlier.items() if arm in rows}


def lacking(
    chosen: list[Case], stages: Stages, finished: dict[str, str], earlier: Records
) -> list[Case]:
    """The rows that no experiment serves and no record.

    A record of another arm of the same experiment does not serve a row.
    """
    missing = []
    for case in chosen:
        known = finished.keys() | records_of(earlier, case.arm).keys()
        if find_serving(case, stages, known) is None:
            missing.append(case)
    return missing


def read_values(case: Case, columns: dict[str, str], ref: str) -> dict[str, Value]:
    """The row's value in each column that its targets have measured.

    To evaluate an arm it was trained. Other metrics at the git ref are those of another run.
    """
    measured: set[str] = set(case.targets)
    if "evaluate" in measured:
        measured.add(f"train/{case.arm}")

    values: dict[str, Value] = {}
    files: dict[str, Any] = {}
    for column, source in columns.items():
        file, path = source.format(arm=case.arm).split(" ")
        if file not in measured:
            continue

        if file not in files:
            files[file] = json.loads(git("show", f"{ref}:metrics/{file}.json"))
        value = find(files[file], path)
        if value is not None:
            values[column] = value

    return values


def find(metrics: Any, path: str) -> Value | None:
    """A number with the `_ci` or `_std` beside it; None where the metrics have no such number."""
    *parents, leaf = path.split(".")
    for parent in parents:
        metrics = metrics.get(parent, {})
    if leaf not in metrics:
        return None

    value = {"value": metrics[leaf]}
    if metrics.get(f"{leaf}_ci") is not None:
        value["interval"] = metrics[f"{leaf}_ci"]
    if metrics.get(f"{leaf}_std") is not None:
        value["deviation"] = metrics[f"{leaf}_std"]
    return value


def record(
    case: Case,
    columns: dict[str, str],
    stages: Stages,
    finished: dict[str, str],
    earlier: Records,
    seconds: dict[str, float],
) -> Record:
    """A row as it is published: measured at its experiment, recorded earlier, or missing (None).

    Its commit is the one whose code measured it.
    """
    row: Record = {"name": case.name, "arm": case.arm, "paper": case.paper}
    records = records_of(earlier, case.arm)

    fingerprint = find_serving(case, stages, finished)
    if fingerprint is not None:
        ref = finished[fingerprint]
        # refs/exps/<2 digits>/<38 digits>/<name>: the digits are the commit that it was run at
        *_, first, rest, name = ref.split("/")
        return row | {
            "measured": read_values(case, columns, ref),
            "experiment": name,
            "fingerprint": fingerprint,
            "seconds": seconds.get(fingerprint),
            "commit": (first + rest)[:COMMIT_DIGITS],
        }

    fingerprint = find_serving(case, stages, records)
    if fingerprint is not None:
        return row | {field: records[fingerprint].get(field) for field in MEASURED}

    return row | dict.fromkeys(MEASURED) | {"fingerprint": fingerprints_of(case, stages)[0]}


def keep_published(rows: list[Record], path: Path, columns: dict[str, str]) -> list[Record]:
    """The rows; in place of a missing one stands what the file holds of it, by older code.

    Of that, columns that were others are left out.
    """
    content = read_json(path)
    before = content.get("columns", {})
    held = {(row["name"], row["arm"]): row for row in content.get("rows", []) if row["measured"]}

    kept = []
    for row in rows:
        older = held.get((row["name"], row["arm"]))
        if row["measured"] is None and older is not None:
            same = {
                column: value
                for column, value in older["measured"].items()
                if before.get(column) == columns.get(column)
            }
            row = row | {field: older.get(field) for field in MEASURED} | {"measured": same}
        kept.append(row)

    return kept


def write(path: Path, table: Table, rows: list[Record], preset: str, trials: int) -> None:
    """Both files of a table."""
    content = {
        "title": table.title,
        "note": table.note,
        "preset": preset,
        "trials": trials,
        "columns": table.columns,
        "rows": rows,
    }
    write_json(path, content)
    path.with_suffix(".md").write_text(render(table, rows, preset, trials))


def render(table: Table, rows: list[Record], preset: str, trials: int) -> str:
    """The rows as a Markdown table: ours, then the paper's."""
    printed = list(dict.fromkeys(column for row in rows for column in row["paper"]))
    head = ["", *table.columns, *(f"paper: {column}" for column in printed)]

    lines = [head, ["---"] * len(head)]
    for row in rows:
        ours = [show(row["measured"], column) for column in table.columns]
        papers = [show_printed(row["paper"].get(column)) for column in printed]
        lines.append([row["name"], *ours, *papers])

    note = f"{explain(preset, trials, bool(printed))} {table.note} {name_code(rows)}"
    note = " ".join(note.split())  # table.note may be empty, or have line breaks

    return f"# {table.title}\n\n{markdown_table(lines)}\n\n{note}\n"


def explain(preset: str, trials: int, has_printed: bool) -> str:
    """What the table's numbers are; `has_printed`: whether the paper has any."""
    plural = "" if trials == 1 else "s"
    text = f"Ours: preset {preset}, {trials} trial{plural}; "
    text += "± one standard deviation between the trials, [95 % interval]."
    if not has_printed:
        text += " The paper prints no numbers for this one."

    return text


def name_code(rows: list[Record]) -> str:
    """Which code made the rows; nothing where none is measured."""
    counts: dict[str, int] = {}
    for row in rows:
        if row.get("commit"):
            counts[row["commit"]] = counts.get(row["commit"], 0) + 1

    if len(counts) < 2:
        return "".join(f"Made by the code of commit {commit}." for commit in counts)
    parts = [f"{count} by that of {commit}" for commit, count in counts.items()]
    return f"Rows made by the code of several commits: {', '.join(parts)}."


def show(measured: dict[str, Value] | None, column: str) -> str:
    if measured is None:
        return "missing"
    if column not in measured:
        return ""

    value = measured[column]
    text = f"{value['value']:g}"
    if "deviation" in value:
        text += f" ± {value['deviation']:g}"
    if "interval" in value:
        text += " [{:g}, {:g}]".format(*value["interval"])
    return text


def show_printed(number: float | None) -> str:
    """Two decimals, as the paper has them; whole numbers, of images, have none."""
    if number is None:
        return ""
    return f"{number:.2f}" if isinstance(number, float) else f"{number:,}"

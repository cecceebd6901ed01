"""What the experiments have measured, beside the paper's numbers.

The files are metrics/paper/<table>.json and <table>.md, made of the ledger. A row that has not been
run is marked missing, but keeps what the file holds of it, by older code.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from experiments.intervals import estimate
from experiments.markdown import markdown_table
from experiments.running.fingerprint import Stages
from experiments.running.ledger import Entry, Ledger
from experiments.running.plans import find_serving
from experiments.tables.figures import draw_table
from experiments.tables.recipes import Case, Table, Tree
from experiments.tables.replicates import TRIALS, replicates
from stages.shared.files import write_json
from stages.shared.paths import METRICS

FOLDER = METRICS / "paper"
DEFAULT_PRESET = "toybirds"  # whose results lie in FOLDER itself
MEASURED = ("measured", "replicates", "experiments", "commits")
Record = dict[str, Any]
Value = dict[str, Any]  # value and, where it has them, interval or deviation


class Setting(NamedTuple):
    """How often a row was run."""

    replicates: int
    trials: int  # classifiers in each

    def __str__(self) -> str:
        return "1 run" if self.replicates == 1 else f"{self.replicates} replicates"


def setting_of(count: int, preset: Tree) -> Setting:
    """`count`: the replicates; one is the preset's own run."""
    return Setting(count, preset["train"]["trials"] if count == 1 else TRIALS)


def folder(preset: str) -> Path:
    return FOLDER if preset == DEFAULT_PRESET else FOLDER / preset


def read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else {}


def read_values(case: Case, columns: dict[str, str], entries: list[Entry]) -> dict[str, Value]:
    """The row's value in each column that its targets have measured, over its replicates."""
    measured: set[str] = set(case.targets)
    if "evaluate" in measured:
        measured.add(f"train/{case.arm}")

    values: dict[str, Value] = {}
    for column, source in columns.items():
        file, path = source.format(arm=case.arm).split(" ")
        if file not in measured:
            continue

        found = [find(entry["metrics"][file], path) for entry in entries]
        known = [value for value in found if value is not None]
        if known:
            values[column] = combine(known)

    return values


def combine(values: list[Value]) -> Value:
    """The mean over replicates with its t interval; one replicate keeps its own."""
    if len(values) == 1:
        return values[0]

    found = estimate([value["value"] for value in values])
    return {
        "value": round(found.value, 4),
        "interval": [round(found.low, 4), round(found.high, 4)],
    }


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
    case: Case, columns: dict[str, str], stages: Stages, ledger: Ledger, count: int
) -> Record:
    """A row as it is published, measured at all of its replicates, or missing (None)."""
    row: Record = {"name": case.name, "arm": case.arm, "paper": case.paper}

    entries = serving_entries(case, stages, ledger, count)
    if len(entries) < count:
        return row | dict.fromkeys(MEASURED) | {"replicates": len(entries) or None}

    return row | {
        "measured": read_values(case, columns, entries),
        "replicates": count,
        "experiments": [entry["name"] for entry in entries],
        "commits": sorted({entry["commit"] for entry in entries}),
    }


def serving_entries(case: Case, stages: Stages, ledger: Ledger, count: int) -> list[Entry]:
    """What the ledger holds of the row's replicates, in their order."""
    served = [find_serving(each, stages, ledger) for each in replicates(case, count)]
    return [ledger[fingerprint] for fingerprint in served if fingerprint is not None]


def keep_published(rows: list[Record], path: Path, columns: dict[str, str]) -> list[Record]:
    """The rows; in place of a missing one stands what the file holds of it, by older code.

    Of that, columns that were others are left out.
    """
    content = read_json(path)
    before = content.get("columns", {})
    held = {(row["name"], row["arm"]): row for row in content.get("rows", []) if is_whole(row)}

    kept = []
    for row in rows:
        older = held.get((row["name"], row["arm"]))
        if row["measured"] is None and older is not None:
            same = {
                column: value
                for column, value in older["measured"].items()
                if before.get(column) == columns.get(column)
            }
            row = row | {field: older[field] for field in MEASURED} | {"measured": same}
        kept.append(row)

    return kept


def is_whole(row: Record) -> bool:
    """Whether a published row was measured, and says how."""
    return all(row.get(field) is not None for field in MEASURED)


def write(path: Path, table: Table, rows: list[Record], preset: str, setting: Setting) -> None:
    """The files of a table: JSON, Markdown, and a figure where it is drawn."""
    content = {
        "title": table.title,
        "note": table.note,
        "preset": preset,
        **setting._asdict(),
        "columns": table.columns,
        "rows": rows,
    }
    write_json(path, content)

    page = render(table, rows, preset, setting)
    name = path.stem.partition("-of-")[0]  # table6-of-3 are the replicates of table6
    if draw_table(name, rows, path.with_suffix(".png")):
        page += f"\n![{table.title}]({path.stem}.png)\n"
    path.with_suffix(".md").write_text(page)


def render(table: Table, rows: list[Record], preset: str, setting: Setting) -> str:
    """The rows as a Markdown table: ours, then the paper's."""
    known = {column for row in rows for column in row["paper"]}
    printed = [column for column in table.columns if column in known]
    printed += sorted(known - set(table.columns))
    head = ["", *table.columns, *(f"paper: {column}" for column in printed)]

    lines = [head, ["---"] * len(head)]
    for row in rows:
        ours = [show(row["measured"], column) for column in table.columns]
        papers = [show_printed(row["paper"].get(column)) for column in printed]
        lines.append([name_row(row, setting), *ours, *papers])

    note = f"{explain(preset, setting, bool(printed))} {table.note} {name_code(rows)}"
    note = " ".join(note.split())  # table.note may be empty, or have line breaks

    return f"# {table.title}\n\n{markdown_table(lines)}\n\n{note}\n"


def name_row(row: Record, setting: Setting) -> str:
    """The row's name; one that was run otherwise than the table, or not to its end, says so."""
    count = row["replicates"]
    if count is None or count == setting.replicates:
        return row["name"]
    if row["measured"] is None:
        return f"{row['name']} ({count} of {setting.replicates} replicates)"
    return f"{row['name']} ({setting._replace(replicates=count)})"


def explain(preset: str, setting: Setting, has_printed: bool) -> str:
    """What the table's numbers are; `has_printed`: whether the paper has any."""
    plural = "" if setting.trials == 1 else "s"
    text = f"Ours: preset {preset}, {setting} of {setting.trials} trial{plural}; "

    if setting.replicates > 1:
        text += (
            "means with [95 % interval] of Student's t over the replicates, which may pass 100 %."
        )
    else:
        text += (
            "± one standard deviation between the trials, [95 % interval] over trials and images."
        )
    if not has_printed:
        text += " The paper prints no numbers for this one."

    return text


def name_code(rows: list[Record]) -> str:
    """Which code made the rows; nothing where none is measured."""
    counts = Counter(" and ".join(row["commits"]) for row in rows if row["commits"])
    if len(counts) < 2:
        return "".join(f"Made by the code of commit {commits}." for commits in counts)

    parts = [f"{count} by that of {commits}" for commits, count in counts.items()]
    return f"Rows made by the code of several commits: {', '.join(parts)}."


def show(measured: dict[str, Value] | None, column: str) -> str:
    if measured is None:
        return "missing"
    if column not in measured:
        return ""

    value = measured[column]
    text = f"{value['value']:.4g}"
    if "deviation" in value:
        text += f" ± {value['deviation']:.4g}"
    if "interval" in value:
        text += " [{:.4g}, {:.4g}]".format(*value["interval"])
    return text


def show_printed(number: float | None) -> str:
    """Two decimals, as the paper has them; whole numbers, of images, have none."""
    if number is None:
        return ""
    return f"{number:.2f}" if isinstance(number, float) else f"{number:,}"

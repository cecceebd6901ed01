"""What the experiments have measured, beside the paper's numbers: metrics/paper/<table>.json and <table>.md.

Read at the experiments' own revisions; a row whose experiment is nowhere is marked missing. A row that the file holds
already, with the same fingerprint, stands also where a clone has not the experiment.
"""

import json
from pathlib import Path
from typing import Any

from experiments.commands import git
from experiments.markdown import markdown_table
from experiments.running.fingerprint import Stages
from experiments.running.plans import marks, serving
from experiments.tables.recipes import Case, Table
from stages.shared.files import write_json
from stages.shared.paths import METRICS

FOLDER = METRICS / "paper"
DEFAULT_PRESET = "toybirds"  # whose results lie in FOLDER itself
MEASURED = ("measured", "experiment", "fingerprint", "seconds")
Record = dict[str, Any]
Value = dict[str, Any]  # value and, where it has them, interval or deviation


def folder(preset: str) -> Path:
    return FOLDER if preset == DEFAULT_PRESET else FOLDER / preset


def read_json(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else {}


def recorded(path: Path, columns: dict[str, str]) -> dict[str, dict[str, Record]]:
    """The measured rows of an earlier table, by fingerprint and arm; none where its columns were others."""
    content, rows = read_json(path), dict[str, dict[str, Record]]()
    for row in content["rows"] if content.get("columns") == columns else []:
        if row["measured"] is not None:
            rows.setdefault(row["fingerprint"], {})[row["arm"]] = row
    return rows


def of_arm(earlier: dict[str, dict[str, Record]], arm: str) -> dict[str, Record]:
    """What is recorded of an arm, by fingerprint."""
    return {mark: rows[arm] for mark, rows in earlier.items() if arm in rows}


def lacking(
    chosen: list[Case], stages: Stages, there: dict[str, str], earlier: dict[str, dict[str, Record]]
) -> list[Case]:
    """The rows that no experiment serves and no record; a record of another arm of the experiment does not."""
    known = {case.arm: there.keys() | of_arm(earlier, case.arm).keys() for case in chosen}
    return [case for case in chosen if serving(case, stages, known[case.arm]) is None]


def measure(case: Case, columns: dict[str, str], ref: str) -> dict[str, Value]:
    """The row's value in each column that its targets have measured: other metrics at `ref` are another run's."""
    values, files = {}, {}
    for column, place in columns.items():
        file, path = place.format(arm=case.arm).split(" ")
        if file not in case.targets:
            continue
        if file not in files:
            files[file] = json.loads(git("show", f"{ref}:metrics/{file}.json"))
        if (value := find(files[file], path)) is not None:
            values[column] = value
    return values


def find(metrics: Any, path: str) -> Value | None:
    """A number with the `_ci` or `_std` beside it; None where the metrics have no such number."""
    *parents, leaf = path.split(".")
    for parent in parents:
        metrics = metrics.get(parent, {})
    if leaf not in metrics:
        return None
    beside = {"interval": metrics.get(f"{leaf}_ci"), "deviation": metrics.get(f"{leaf}_std")}
    return {"value": metrics[leaf]} | {
        name: value for name, value in beside.items() if value is not None
    }


def record(
    case: Case, columns: dict[str, str], stages: Stages, there: dict[str, str],
    earlier: dict[str, dict[str, Record]], seconds: dict[str, float],
) -> Record:  # fmt: skip
    """A row as it is published: measured at its experiment, or as recorded earlier, or missing (None)."""
    row: Record = {"name": case.name, "arm": case.arm, "paper": case.paper}
    if (mark := serving(case, stages, there)) is not None:
        found = {
            "measured": measure(case, columns, there[mark]),
            "experiment": there[mark].split("/")[-1],
        }
        return row | found | {"fingerprint": mark, "seconds": seconds.get(mark)}
    same = of_arm(earlier, case.arm)
    if (mark := serving(case, stages, same)) is not None:
        return row | {name: same[mark][name] for name in MEASURED}
    return row | dict.fromkeys(MEASURED) | {"fingerprint": marks(case, stages)[0]}


def write(path: Path, table: Table, rows: list[Record], preset: str, trials: int) -> None:
    """Both files of a table."""
    content = {"title": table.title, "note": table.note, "preset": preset, "trials": trials}
    write_json(path, content | {"columns": table.columns, "rows": rows})
    path.with_suffix(".md").write_text(render(table, rows, preset, trials))


def render(table: Table, rows: list[Record], preset: str, trials: int) -> str:
    """The rows as a Markdown table: ours, then the paper's."""
    printed = list(dict.fromkeys(column for row in rows for column in row["paper"]))
    head = ["", *table.columns, *(f"paper: {column}" for column in printed)]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        ours = [show(row["measured"], column) for column in table.columns]
        lines.append(
            [row["name"], *ours, *(show_printed(row["paper"].get(column)) for column in printed)]
        )
    text = markdown_table(lines)
    note = f"Ours: preset {preset}, {trials} trial{'s' * (trials != 1)}; ± one standard deviation between the trials, "
    note += (
        "[95 % interval]. "
        + ("" if printed else "The paper prints no numbers for this one. ")
        + table.note
    )
    return f"# {table.title}\n\n{text}\n\n{' '.join(note.split())}\n"


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
    return "" if number is None else f"{number:.2f}" if isinstance(number, float) else f"{number:,}"

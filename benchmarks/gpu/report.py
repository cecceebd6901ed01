"""Runs the groups of cases, most important first, and writes what comes of them at once."""

import gc
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.timing import SKIPPED, Row, failed
from experiments.markdown import markdown_table
from stages.shared.files import write_json
from stages.shared.running.runtime import device

HEAD = ["", "case", "a second", "times", "GiB at the peak", "else"]


class Report:
    """The lines so far; the file holds all of them at any time."""

    def __init__(self, path: Path, machine: dict[str, Any]):
        self.path = path
        self.machine = machine
        self.rows: list[Row] = []

    def add(self, title: str, row: Row) -> None:
        """Print a case's line, and write the file anew."""
        named = {"group": title, **row}
        print(json.dumps(named, ensure_ascii=False), flush=True)
        self.rows.append(named)
        self.write()

    def write(self) -> None:
        write_json(self.path, {"machine": self.machine, "cases": self.rows})

    def lacking(self, group: Group) -> list[str]:
        """The group's cases that have no line yet."""
        present = {row["case"] for row in self.rows if row["group"] == group.title}
        return [case for case in group.cases if case not in present]

    def table(self) -> str:
        """All lines as Markdown."""
        return markdown_table([HEAD, ["---"] * len(HEAD), *map(cells, self.rows)])


def run_groups(groups: Sequence[Group], bench: Bench, report: Report) -> None:
    """Run the groups while the budget lasts.

    Each case has one line, whatever becomes of its group.
    """
    for group in groups:
        outcome: Row = SKIPPED
        if not bench.budget.is_spent():
            try:
                for row in group.run(bench):
                    report.add(group.title, row)
            except (Exception, SystemExit) as error:
                outcome = failed(error)

        for case in report.lacking(group):
            report.add(group.title, {"case": case, **outcome})
        clean_up()


def clean_up() -> None:
    """Leave the next group an empty GPU, and nothing compiled."""
    torch.compiler.reset()
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()


def cells(row: Row) -> list[str]:
    """A case's row of the table."""
    speed = f"{row['per_second']:g} {row['unit']}" if "per_second" in row else ""
    times = "; ".join(f"{ratio:g} × {rival}" for rival, ratio in row.get("times", {}).items())
    peak = f"{row['peak_gib']:g}" if row.get("peak_gib") else ""
    return [row["group"], row["case"], speed, times, peak, remark(row).replace("|", "/")]


def remark(row: Row) -> str:
    """What the other columns do not hold."""
    if "error" in row:
        return row["error"]
    if "skipped" in row:
        return f"skipped: {row['skipped']}"
    if "same" in row:
        return "same bytes" if row["same"] else f"differs by up to {row['largest_difference']:g}"
    if "tflops" in row:
        share = f", {row['share_of_product']:.0%}" if "share_of_product" in row else ""
        return f"{row['tflops']:g} TFLOP/s{share}"
    if "head_sizes" in row:
        return f"runs alone with heads of {', '.join(map(str, row['head_sizes'])) or 'none'}"

    return ""

"""How two runs of the pipeline differ, stage by stage: which files, in how many bytes, and metrics by how much."""

import csv
import filecmp
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.markdown import markdown_table
from experiments.reproducing.lock import Locked, hashes

SHOWN = 4  # files a stage
Verdict = Literal["bit-identical", "within tolerance", "differs", "differs (no numbers)"]
Found = dict[str, list["Difference"]]


class Checkout(NamedTuple):
    """One of the two: what it is called, where its files lie, as far as they are at hand, and its dvc.lock."""

    name: str
    folder: Path
    locked: Locked


class Difference(NamedTuple):
    """One file's: bytes where both have it, else why there are none; the largest difference of any number."""

    path: str
    differing: int | str
    size: int
    largest: (
        float | None
    )  # of a metric, infinite where its shape or a word differs; None: holds no numbers


def compare(one: Checkout, other: Checkout, metrics: Iterable[str]) -> Found:
    """The differences by stage; `metrics` are the outputs whose numbers count."""
    names = dict.fromkeys([*one.locked, *other.locked])  # in the order in which they ran
    return {name: list(compare_stage(one, other, name, set(metrics))) for name in names}


def compare_stage(
    one: Checkout, other: Checkout, name: str, metrics: set[str]
) -> Iterator[Difference]:
    first, second = (hashes(run.locked.get(name, {}), "outs") for run in (one, other))
    for path in sorted(first.keys() | second):
        if path not in first or path not in second:
            yield alone(path, one if path in first else other, True)
        else:
            yield from compare_output(
                one, other, path, first[path] == second[path], path in metrics
            )


def compare_output(
    one: Checkout, other: Checkout, path: str, same_hash: bool, counts: bool
) -> Iterator[Difference]:
    """By content where both have files; else by dvc.lock's hashes, which is all that is known."""
    first, second = files(one.folder, path), files(other.folder, path)
    if not first or not second:
        if not same_hash:
            yield Difference(path, "only hashes known", 0, math.inf if counts else None)
        return
    found = [
        alone(name, one if name in first else other, counts)
        for name in sorted(first.keys() ^ second)
    ]
    for name in sorted(first.keys() & second):
        if not filecmp.cmp(first[name], second[name], shallow=False):
            found.append(compare_file(name, first[name], second[name], counts))
    if not found and not same_hash:
        found = [Difference(path, "equal files, other hash in dvc.lock", 0, math.inf)]
    yield from found


def files(folder: Path, path: str) -> dict[str, Path]:
    """An output's files by their path in the repository; none where the output is not at hand."""
    output = folder / path
    paths = [output] if output.is_file() else output.rglob("*")
    return {found.relative_to(folder).as_posix(): found for found in paths if found.is_file()}


def alone(path: str, owner: Checkout, counts: bool) -> Difference:
    return Difference(path, f"only the {owner.name} has it", 0, math.inf if counts else None)


def compare_file(name: str, first: Path, second: Path, counts: bool) -> Difference:
    """Of two files that are not equal."""
    one, other = first.read_bytes(), second.read_bytes()
    largest = (
        largest_difference(first, second) if counts and first.suffix in (".json", ".csv") else None
    )
    return Difference(name, count_bytes(one, other), max(len(one), len(other)), largest)


def count_bytes(one: bytes, other: bytes) -> int:
    """The places at which they differ; what one has beyond the other's end counts in full."""
    shared = min(len(one), len(other))
    differing = np.frombuffer(one, np.uint8, shared) != np.frombuffer(other, np.uint8, shared)
    return int(differing.sum()) + max(len(one), len(other)) - shared


def largest_difference(first: Path, second: Path) -> float:
    """Of any number in the same place of both; infinite where places or words differ."""
    one, other = values(first), values(second)
    if one.keys() != other.keys():
        return math.inf
    return max((distance(one[place], other[place]) for place in one), default=0.0)


def values(path: Path) -> dict[tuple[Any, ...], Any]:
    """The leaves of a json file, or the cells of a csv file, by their place."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            return {
                (row, column): text
                for row, line in enumerate(csv.reader(file))
                for column, text in enumerate(line)
            }
    return dict(leaves(json.loads(path.read_text())))


def leaves(node: Any, *place: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    if not isinstance(node, dict | list):
        yield place, node
        return
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from leaves(value, *place, key)


def distance(one: Any, other: Any) -> float:
    """Between two leaves or cells; infinite where one is no number."""
    if one == other:
        return 0.0
    try:
        between = abs(float(one) - float(other))
    except (TypeError, ValueError):
        return math.inf
    return math.inf if math.isnan(between) else round(between, 9)  # 70.2 - 70.1 is to be 0.1


def judge(found: list[Difference], tolerance: float) -> Verdict:
    """A stage's verdict. Without a tolerance every byte counts. With one, numbers do: files that hold none, such as
    weights and images, are judged by the metrics of the stages after them."""
    if not found:
        return "bit-identical"
    numbers = [difference.largest for difference in found if difference.largest is not None]
    if not tolerance or any(number > tolerance for number in numbers):
        return "differs"
    return "within tolerance" if numbers else "differs (no numbers)"


def passes(found: Found, tolerance: float) -> bool:
    return all(judge(differences, tolerance) != "differs" for differences in found.values())


def render(found: Found, tolerance: float) -> str:
    """A Markdown table, a line a stage."""
    lines = [["stage", "verdict", "what differs"], ["---"] * 3]
    for name, differences in found.items():
        shown = [show(difference) for difference in differences[:SHOWN]]
        rest = [f"and {len(differences) - SHOWN} more"] if len(differences) > SHOWN else []
        lines.append([name, judge(differences, tolerance), "; ".join(shown + rest)])
    return markdown_table(lines)


def show(difference: Difference) -> str:
    path, differing, size, largest = difference
    text = f"{path}: " + (
        differing if isinstance(differing, str) else f"{differing:,} of {size:,} bytes"
    )
    if largest is None or isinstance(differing, str):
        return text
    return text + (
        ", in words or shape" if math.isinf(largest) else f", numbers by up to {largest:.6g}"
    )

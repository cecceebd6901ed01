"""How two runs of the pipeline differ, stage by stage.

It says which files differ, in how many bytes, and by how much the numbers of metrics differ.
"""

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
Found = dict[str, list["Difference"]]  # by stage
Position = tuple[str | int, ...]  # of a leaf, its path of keys; of a cell, its row and column


class Checkout(NamedTuple):
    """One of the two runs: its name, the folder with the files at hand, and its dvc.lock."""

    name: str
    folder: Path
    locked: Locked


class Difference(NamedTuple):
    """How one file differs.

    `differing` counts bytes where both runs have the file, else it says why there is no count.
    `largest` is the largest difference of any number of a metric: infinite where the shape or a
    word differs, None for a file that holds no numbers.
    """

    path: str
    differing: int | str
    size: int
    largest: float | None


def compare(one: Checkout, other: Checkout, metrics: Iterable[str]) -> Found:
    """The differences by stage; `metrics` are the outputs whose numbers count."""
    names = dict.fromkeys([*one.locked, *other.locked])  # in the order in which they ran
    return {name: list(compare_stage(one, other, name, set(metrics))) for name in names}


def compare_stage(
    one: Checkout, other: Checkout, name: str, metrics: set[str]
) -> Iterator[Difference]:
    """The differences of a stage's outputs, by path."""
    first = hashes(one.locked.get(name, {}), "outs")
    second = hashes(other.locked.get(name, {}), "outs")

    for path in sorted(first.keys() | second):
        if path in first and path in second:
            same_hash = first[path] == second[path]
            yield from compare_output(one, other, path, same_hash, path in metrics)
        else:
            yield only_in(one if path in first else other, path, True)


def compare_output(
    one: Checkout, other: Checkout, path: str, same_hash: bool, counts: bool
) -> Iterator[Difference]:
    """The differences of an output's files, by content where both runs have files.

    Else by dvc.lock's hashes, which are all that is known. `counts`: the output's numbers count.
    """
    first = find_files(one.folder, path)
    second = find_files(other.folder, path)
    if not first or not second:
        if not same_hash:
            yield Difference(path, "only hashes known", 0, math.inf if counts else None)
        return

    found = []
    for name in sorted(first.keys() ^ second):
        found.append(only_in(one if name in first else other, name, counts))
    for name in sorted(first.keys() & second):
        if not filecmp.cmp(first[name], second[name], shallow=False):
            found.append(compare_file(name, first[name], second[name], counts))
    if not found and not same_hash:
        found = [Difference(path, "equal files, other hash in dvc.lock", 0, math.inf)]

    yield from found


def find_files(folder: Path, path: str) -> dict[str, Path]:
    """An output's files by their path in the repository; none where the output is not at hand."""
    output = folder / path
    paths = [output] if output.is_file() else output.rglob("*")
    return {found.relative_to(folder).as_posix(): found for found in paths if found.is_file()}


def only_in(owner: Checkout, path: str, counts: bool) -> Difference:
    """What is said of a file that one run alone has."""
    return Difference(path, f"only the {owner.name} has it", 0, math.inf if counts else None)


def compare_file(name: str, first: Path, second: Path, counts: bool) -> Difference:
    """The difference of two files that are not equal."""
    one = first.read_bytes()
    other = second.read_bytes()
    has_numbers = counts and first.suffix in (".json", ".csv")
    largest = largest_difference(first, second) if has_numbers else None

    return Difference(name, count_bytes(one, other), max(len(one), len(other)), largest)


def count_bytes(one: bytes, other: bytes) -> int:
    """The number of offsets at which they differ; what one has beyond the other's end counts."""
    shared = min(len(one), len(other))
    differing = np.frombuffer(one, np.uint8, shared) != np.frombuffer(other, np.uint8, shared)
    return int(differing.sum()) + max(len(one), len(other)) - shared


def largest_difference(first: Path, second: Path) -> float:
    """Of any number at the same position of both; infinite where positions or words differ."""
    one = read_values(first)
    other = read_values(second)
    if one.keys() != other.keys():
        return math.inf

    return max((distance(one[position], other[position]) for position in one), default=0.0)


def read_values(path: Path) -> dict[Position, Any]:
    """The leaves of a json file, or the cells of a csv file, by their position."""
    if path.suffix != ".csv":
        return dict(leaves(json.loads(path.read_text())))

    cells: dict[Position, Any] = {}
    with path.open(newline="") as file:
        for row, line in enumerate(csv.reader(file)):
            for column, text in enumerate(line):
                cells[row, column] = text

    return cells


def leaves(node: Any, *position: str | int) -> Iterator[tuple[Position, Any]]:
    """A JSON tree's leaves, each with the keys and indices that lead to it."""
    if not isinstance(node, dict | list):
        yield position, node
        return

    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield from leaves(value, *position, key)


def distance(one: Any, other: Any) -> float:
    """Between two leaves or cells; infinite where one is no number."""
    if one == other:
        return 0.0

    try:
        between = abs(float(one) - float(other))
    except (TypeError, ValueError):
        return math.inf

    # Rounded, because 70.2 - 70.1 is to be 0.1.
    return math.inf if math.isnan(between) else round(between, 9)


def judge(found: list[Difference], tolerance: float) -> Verdict:
    """A stage's verdict.

    Without a tolerance every byte counts. With one, numbers count: files that hold none, such as
    weights and images, are judged by the metrics of the stages after them.
    """
    if not found:
        return "bit-identical"

    numbers = [difference.largest for difference in found if difference.largest is not None]
    if not tolerance or any(number > tolerance for number in numbers):
        return "differs"

    return "within tolerance" if numbers else "differs (no numbers)"


def passes(found: Found, tolerance: float) -> bool:
    """Whether no stage differs by more than the tolerance."""
    return all(judge(differences, tolerance) != "differs" for differences in found.values())


def render(found: Found, tolerance: float) -> str:
    """A Markdown table, a line a stage."""
    lines = [["stage", "verdict", "what differs"], ["---"] * 3]
    for name, differences in found.items():
        shown = [show(difference) for difference in differences[:SHOWN]]
        if len(differences) > SHOWN:
            shown.append(f"and {len(differences) - SHOWN} more")
        lines.append([name, judge(differences, tolerance), "; ".join(shown)])

    return markdown_table(lines)


def show(difference: Difference) -> str:
    """A difference in words."""
    path, differing, size, largest = difference
    if isinstance(differing, str):
        return f"{path}: {differing}"

    text = f"{path}: {differing:,} of {size:,} bytes"
    if largest is None:
        return text
    if math.isinf(largest):
        return f"{text}, in words or shape"

    return f"{text}, numbers by up to {largest:.6g}"

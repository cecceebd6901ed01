"""The house rules of docs/code.md.

There is no import circle, imports go downwards, and folders and functions stay small.
"""

import ast
from collections import Counter
from pathlib import Path

import networkx
import pytest

from tests.support.closure import ROOT, imported

CODE = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("stages", "experiments", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
MOST_MODULES = 12  # in a folder
MOST_LINES = 40  # of a function

# From the bottom to the top: a module imports from its own layer and from those before it. The
# first layer that fits a module counts, so that single modules come before their folder.
LAYERS = [
    ("stages/shared/errors", "stages/shared/paths", "stages/shared/params"),
    (
        "stages/shared/files",
        "stages/shared/hashes",
        "stages/shared/manifests",
        "stages/shared/methods",
        "stages/shared/prompts",
        "stages/shared/tables",
    ),
    (
        "stages/shared/classifier/choices",
        "stages/shared/diffusion/sampling",
        "stages/shared/pretrained/reference",
    ),
    ("stages/shared/schemas/", "stages/shared/watching/"),
    ("stages/shared/running/",),
    ("stages/shared/pretrained/",),
    ("stages/shared/diffusion/",),
    ("stages/shared/classifier/",),
    ("stages/shared/measuring/",),
    ("stages/shared/figures/", "stages/shared/serving/"),
    ("stages/datasets/",),
    ("stages/pretraining/",),
    ("stages/",),
    (
        "experiments/commands",
        "experiments/intervals",
        "experiments/markdown",
        "experiments/settings/",
    ),
    ("experiments/tables/", "experiments/reproducing/"),
    ("experiments/running/",),
    ("experiments/claims/", "experiments/estimating/"),
    ("experiments/", "benchmarks/"),
]


def layer(path: str) -> int:
    """The number of a module's layer, 0 for the lowest."""
    return next(number for number, names in enumerate(LAYERS) if path.startswith(names))


def test_no_module_imports_itself_by_way_of_others():
    graph = networkx.DiGraph((path, other) for path in CODE for other in imported(path))
    assert list(networkx.simple_cycles(graph)) == []


@pytest.mark.parametrize("path", [path for path in CODE if not path.endswith("__init__.py")])
def test_a_module_imports_from_its_layer_and_below(path):
    above = {other for other in imported(path) if layer(other) > layer(path)}
    assert above == set()


def test_no_stage_imports_another():
    stages = {path for path in CODE if Path(path).parent == Path("stages")}
    found = {path: imported(path) & stages for path in stages}
    assert {path: others for path, others in found.items() if others} == {}


def test_folders_are_small():
    modules = Counter(Path(path).parent.as_posix() for path in CODE if "__init__" not in path)
    assert modules.pop("stages") == 17  # 13 stages and four tools, whose commands users know
    assert {folder: count for folder, count in modules.items() if count > MOST_MODULES} == {}


def test_functions_are_short():
    long = []
    for path in CODE:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1  # type: ignore[operator]
                if lines > MOST_LINES:
                    long.append(f"{path}: {node.name}")

    assert long == []

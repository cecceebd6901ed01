"""Which files and packages a module imports, directly or not, by an `ast` walk."""

import ast
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = {"benchmarks", "experiments", "stages", "tests"}


def imported(path: str) -> set[str]:
    """The project files that a module imports directly, relative to the root."""
    found = set()

    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]

        for name in names:
            file = name.replace(".", "/") + ".py"
            if name.split(".")[0] in ("stages", "experiments") and (ROOT / file).is_file():
                found.add(file)

    return found


def closure(path: str) -> set[str]:
    """The module itself and all that it imports, directly or not."""
    found: set[str] = set()
    new = {path}

    while new:
        found |= new
        new = {file for path in new for file in imported(path)} - found

    return found


def outside_imports(paths: Iterable[str]) -> set[str]:
    """The packages that these files import, beside Python's own and the project's."""
    names = set()
    for path in paths:
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module)
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}

    roots = {name.split(".")[0] for name in names}
    return roots - sys.stdlib_module_names - OWN

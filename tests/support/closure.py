"""Which files of the project a stage imports, transitively, by an `ast` walk."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported(path: str) -> set[str]:
    """The project files that a module imports directly, relative to the root."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        files = (name.replace(".", "/") + ".py" for name in names if name.split(".")[0] in ("stages", "experiments"))
        found |= {file for file in files if (ROOT / file).is_file()}
    return found


def closure(path: str) -> set[str]:
    """The module itself and all that it imports, directly or not."""
    seen, open_ = set(), {path}
    while open_:
        seen |= open_
        open_ = {file for path in open_ for file in imported(path)} - seen
    return seen

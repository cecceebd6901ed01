"""Read a stage's own leaves of params.yaml into its pydantic model.

The model is the declaration: its leaf paths are the stage's `params:` list in dvc.yaml.
"""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from stages.shared.errors import BadInput

PATH = Path("params.yaml")
LARGEST = 2**63 - 1  # of a whole number: more than any library takes
CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]"
)  # with other line ends, and half letters


class Section(BaseModel):
    """A frozen group of parameters that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Section)


def leaves(model: type[Section], sections: Mapping[str, str] | None = None) -> list[str]:
    """The dotted paths of the model's leaves; `sections` maps a top-level field to where it lives in the file."""
    paths = []
    for name, field in model.model_fields.items():
        dotted = (sections or {}).get(name, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            paths += [f"{dotted}.{leaf}" for leaf in leaves(field.annotation)]
        else:
            paths.append(dotted)
    return paths


def read(path: Path = PATH) -> dict[str, Any]:
    """The whole parameter file as nested dictionaries."""
    try:
        # YAML 1.2, as DVC reads it: 5e-05 is a number, and no key stands twice
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (
        Exception
    ) as error:  # OSError, YAMLError, and whatever a value's constructor raises: !!int a
        raise BadInput(
            f"{path}: cannot be read ({_reason(error)}); fix it, or copy a file of presets/"
        ) from None

    if not isinstance(tree, dict):
        raise BadInput(f"{path}: holds no parameters; copy a file of presets/ over it")

    _check_node(tree, "", path, {})
    return tree


def _reason(error: Exception) -> str:
    """An error's own words; of YAML's where it is and what, without the parser's context."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        text = f"line {error.problem_mark.line + 1}: {error.problem}"
    else:
        text = str(error) or type(error).__name__
    return shortened(" ".join(text.split()))


def _check_node(node: Any, dotted: str, path: Path, inside: dict[int, bool]) -> None:
    """Raises BadInput for a key that is not a string, text with unprintable characters, a number beyond 64 bits.

    `inside`: by each node's id whether it is still being visited (else a cycle) or done (an alias, looked at once).
    """
    if isinstance(node, str) and CONTROL.search(node):
        raise BadInput(
            f"{path}: {dotted}: {quoted(node)} holds a character that cannot be printed; take it out"
        )
    if isinstance(node, int) and abs(node) > LARGEST:
        raise BadInput(f"{path}: {dotted}: a number is beyond 64 bits; give a smaller one")
    if inside.get(id(node)):
        raise BadInput(f"{path}: {dotted}: holds itself; write it out")
    if not isinstance(node, dict | list) or id(node) in inside:
        return
    inside[id(node)] = True
    if isinstance(node, list):
        for child in node:
            _check_node(child, dotted, path, inside)
    else:
        for key, child in node.items():
            _check_node(child, _below(dotted, key, path), path, inside)
    inside[id(node)] = False


def _below(dotted: str, key: Any, path: Path) -> str:
    where = f"{path}: {dotted}: " if dotted else f"{path}: "
    if not isinstance(key, str):
        raise BadInput(
            f"{where}{quoted(key)} is no word, but names a parameter; put it in quotes, or take it out"
        )
    if "." in key or CONTROL.search(key):
        raise BadInput(
            f"{where}{quoted(key)} cannot name a parameter; take it out, or name it by plain letters"
        )
    return shortened(f"{dotted}.{key}".lstrip("."))


def quoted(value: Any) -> str:
    """A value as a message shows it: not at length, whatever it holds."""
    return shortened(repr(value) if isinstance(value, str) else reprlib.repr(value), 100)


def shortened(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def load(model: type[Model], sections: Mapping[str, str] | None = None, path: Path = PATH) -> Model:
    """Pick the model's leaves out of the file and check them.

    Raises BadInput, naming the first parameter that is missing or out of range.
    """
    return pick(model, read(path), sections, path)


def pick(
    model: type[Model],
    tree: dict[str, Any],
    sections: Mapping[str, str] | None = None,
    path: Path = PATH,
) -> Model:
    """`load` for a file already read."""
    sections = sections or {}
    values = {
        name: _pick_field(field, tree, sections.get(name, name), path)
        for name, field in model.model_fields.items()
    }
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first["input"], dict) else f" (it is {quoted(first['input'])})"
        where = [str(path), *map(shortened, _dotted(first["loc"], sections))]
        raise BadInput(": ".join([*where, reason[0].lower() + reason[1:] + shown])) from None


def _dotted(location: tuple[int | str, ...], sections: Mapping[str, str]) -> list[str]:
    """Where in the file an error lies; one that concerns several sections lies nowhere, or in what `sections` maps."""
    if not location:
        return list(sections.values())
    field, *rest = map(str, location)
    return [".".join([sections.get(field, field), *rest])]


def _pick_field(field, tree: dict[str, Any], dotted: str, path: Path) -> Any:
    section = field.annotation
    if isinstance(section, type) and issubclass(section, Section):
        return {
            n: _pick_field(f, tree, f"{dotted}.{n}", path) for n, f in section.model_fields.items()
        }
    return lookup(tree, dotted, path)


def lookup(tree: dict[str, Any], dotted: str, path: Path = PATH) -> Any:
    """What stands at a dotted path; raises BadInput for one that the file does not have."""
    node: Any = tree
    for step in dotted.split("."):
        if not isinstance(node, dict) or step not in node:
            raise BadInput(f"{path}: {dotted} is missing; take its line from presets/toybirds.yaml")
        node = node[step]
    return node

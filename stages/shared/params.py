"""Read a stage's own parameters of params.yaml into its pydantic model.

A parameter is a leaf of the file, named by its dotted path: synth.strength. The model declares
which ones a stage reads: its leaf paths are the stage's `params:` list in dvc.yaml.
"""

import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from stages.shared.errors import BadInput

PATH = Path("params.yaml")
LARGEST = 2**63 - 1  # of a whole number: more than any library takes

# unprintable characters, among them other line ends and halves of surrogate pairs
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Section(BaseModel):
    """A frozen group of parameters that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Section)
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what every generator of random numbers takes


def leaves(model: type[Section], sections: Mapping[str, str] | None = None) -> list[str]:
    """The dotted paths of the model's leaves.

    `sections` gives the dotted path of a top-level field where that is not its name.
    """
    paths = []

    for name, field in model.model_fields.items():
        field_path = (sections or {}).get(name, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            paths += [f"{field_path}.{leaf}" for leaf in leaves(field.annotation)]
        else:
            paths.append(field_path)

    return paths


def read(path: Path = PATH) -> dict[str, Any]:
    """The whole parameter file as nested dictionaries."""
    try:
        # YAML 1.2, as DVC reads it: 5e-05 is a number, and a key given twice is an error
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except Exception as error:
        # OSError, YAMLError, and whatever a value's constructor raises: !!int a
        raise BadInput(
            f"{path}: cannot be read ({_reason(error)}); fix it, or copy a file of presets/"
        ) from None

    if not isinstance(tree, dict):
        raise BadInput(f"{path}: holds no parameters; copy a file of presets/ over it")

    _check_node(tree, "", path, {})
    return tree


def _reason(error: Exception) -> str:
    """An error's own words; of a YAML error line and problem, without the parser's context."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        text = f"line {error.problem_mark.line + 1}: {error.problem}"
    else:
        text = str(error) or type(error).__name__

    return shortened(" ".join(text.split()))


def _check_node(node: Any, dotted_path: str, path: Path, visiting: dict[int, bool]) -> None:
    """Raises BadInput for what params.yaml must not hold, at this node or below it.

    That is: a key that is not a string, text with unprintable characters, a number beyond 64 bits
    and a cycle. `visiting` says by a node's id whether it is still being visited (seen again, it
    is a cycle) or done (seen again, it is an alias, and need not be visited twice).
    """
    where = f"{path}: {dotted_path}"
    if isinstance(node, str) and CONTROL.search(node):
        raise BadInput(
            f"{where}: {quoted(node)} holds a character that cannot be printed; take it out"
        )
    if isinstance(node, int) and abs(node) > LARGEST:
        raise BadInput(f"{where}: a number is beyond 64 bits; give a smaller one")
    if visiting.get(id(node)):
        raise BadInput(f"{where}: holds itself; write it out")
    if not isinstance(node, dict | list) or id(node) in visiting:
        return

    visiting[id(node)] = True
    if isinstance(node, list):
        for child in node:
            _check_node(child, dotted_path, path, visiting)
    else:
        for key, child in node.items():
            _check_node(child, _child_path(dotted_path, key, path), path, visiting)
    visiting[id(node)] = False


def _child_path(dotted_path: str, key: Any, path: Path) -> str:
    """The dotted path of a key's value; raises BadInput for a key that cannot be part of one."""
    where = f"{path}: {dotted_path}: " if dotted_path else f"{path}: "
    if not isinstance(key, str):
        raise BadInput(
            f"{where}{quoted(key)} is no word, but names a parameter; "
            "put it in quotes, or take it out"
        )
    if "." in key or CONTROL.search(key):
        raise BadInput(
            f"{where}{quoted(key)} cannot name a parameter; "
            "take it out, or name it by plain letters"
        )

    return shortened(f"{dotted_path}.{key}".lstrip("."))


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
        where = [str(path), *map(shortened, _error_paths(first["loc"], sections))]
        raise BadInput(": ".join([*where, reason[0].lower() + reason[1:] + shown])) from None


def _error_paths(location: tuple[int | str, ...], sections: Mapping[str, str]) -> list[str]:
    """The dotted path that an error of pydantic's concerns.

    An error of the whole model concerns several sections, and has no path but what `sections` maps.
    """
    if not location:
        return list(sections.values())

    field, *rest = map(str, location)
    return [".".join([sections.get(field, field), *rest])]


def _pick_field(field, tree: dict[str, Any], dotted_path: str, path: Path) -> Any:
    """The value of a model's field: of a section the values of all its fields, by name."""
    section = field.annotation
    if not (isinstance(section, type) and issubclass(section, Section)):
        return lookup(tree, dotted_path, path)

    return {
        name: _pick_field(child, tree, f"{dotted_path}.{name}", path)
        for name, child in section.model_fields.items()
    }


def lookup(tree: dict[str, Any], dotted_path: str, path: Path = PATH) -> Any:
    """The value at a dotted path; raises BadInput for a path that the file does not have."""
    node: Any = tree

    for step in dotted_path.split("."):
        if not isinstance(node, dict) or step not in node:
            raise BadInput(
                f"{path}: {dotted_path} is missing; take its line from presets/toybirds.yaml"
            )
        node = node[step]

    return node

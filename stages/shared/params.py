"""Read a stage's own leaves of params.yaml into its pydantic model.

The model is the declaration: its leaf paths are the stage's `params:` list in dvc.yaml.
"""

import re
import reprlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.shared.errors import BadInput

PATH = Path("params.yaml")
LARGEST = 2**63 - 1  # of a whole number: more than any library takes
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")  # with other line ends, and half letters


class Loader(yaml.SafeLoader):
    """Numbers as in YAML 1.2: DVC writes 0.00005 as 5e-05, which YAML 1.1 takes for a word.

    No key stands twice: DVC refuses it, while YAML 1.1 lets the last one win unseen.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, count in keys.items() if count > 1]:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: {quoted(twice[0])} appears twice")
        return node


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


class Section(BaseModel):
    """A frozen group of parameters that refuses what it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Model = TypeVar("Model", bound=Section)


def leaves(model: type[Section], places: Mapping[str, str] | None = None) -> list[str]:
    """The dotted paths of the model's leaves; `places` maps a top-level field to where it lives in the file."""
    paths = []
    for name, field in model.model_fields.items():
        place = (places or {}).get(name, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            paths += [f"{place}.{leaf}" for leaf in leaves(field.annotation)]
        else:
            paths.append(place)
    return paths


def read(path: Path = PATH) -> dict[str, Any]:
    """The whole parameter file as nested dictionaries."""
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), Loader)  # a SafeLoader
    except Exception as error:  # OSError, YAMLError, and whatever a value's constructor raises: !!int a, 2026-99-99
        reason = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise BadInput(f"{path}: cannot be read ({reason}); fix it, or copy a file of presets/") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: holds no parameters; copy a file of presets/ over it")
    _check_node(tree, "", path, {})
    return tree


def _check_node(node: Any, place: str, path: Path, inside: dict[int, bool]) -> None:
    """Raises BadInput for a key that is not a string, text with unprintable characters, a number beyond 64 bits.

    `inside`: by each node's id whether it is still being visited (else a cycle) or done (an alias, looked at once).
    """
    if isinstance(node, str) and CONTROL.search(node):
        raise BadInput(f"{path}: {place}: {quoted(node)} holds a character that cannot be printed; take it out")
    if isinstance(node, int) and abs(node) > LARGEST:
        raise BadInput(f"{path}: {place}: a number is beyond 64 bits; give a smaller one")
    if inside.get(id(node)):
        raise BadInput(f"{path}: {place}: holds itself; write it out")
    if not isinstance(node, dict | list) or id(node) in inside:
        return
    inside[id(node)] = True
    if isinstance(node, list):
        for child in node:
            _check_node(child, place, path, inside)
    else:
        for key, child in node.items():
            _check_node(child, _below(place, key, path), path, inside)
    inside[id(node)] = False


def _below(place: str, key: Any, path: Path) -> str:
    where = f"{path}: {place}: " if place else f"{path}: "
    if not isinstance(key, str):
        raise BadInput(f"{where}{quoted(key)} is no word, but names a parameter; put it in quotes, or take it out")
    if "." in key or CONTROL.search(key):
        raise BadInput(f"{where}{quoted(key)} cannot name a parameter; take it out, or name it by plain letters")
    return shortened(f"{place}.{key}".lstrip("."))


def quoted(value: Any) -> str:
    """A value as a message shows it: not at length, whatever it holds."""
    return shortened(repr(value) if isinstance(value, str) else reprlib.repr(value), 100)


def shortened(text: str, most: int = 160) -> str:
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def load(model: type[Model], places: Mapping[str, str] | None = None, path: Path = PATH) -> Model:
    """Pick the model's leaves out of the file and check them.

    Raises BadInput, naming the first parameter that is missing or out of range.
    """
    return pick(model, read(path), places, path)


def pick(model: type[Model], tree: dict[str, Any], places: Mapping[str, str] | None = None, path: Path = PATH) -> Model:
    """`load` for a file already read."""
    places = places or {}
    values = {
        name: _pick_field(field, tree, places.get(name, name), path) for name, field in model.model_fields.items()
    }
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        shown = "" if isinstance(first["input"], dict) else f" (it is {quoted(first['input'])})"
        where = [str(path), *map(shortened, _place(first["loc"], places))]
        raise BadInput(": ".join([*where, reason[0].lower() + reason[1:] + shown])) from None


def _place(location: tuple[int | str, ...], places: Mapping[str, str]) -> list[str]:
    """Where in the file an error lies; one that concerns several sections lies nowhere, or in what `places` maps."""
    if not location:
        return list(places.values())
    field, *rest = map(str, location)
    return [".".join([places.get(field, field), *rest])]


def _pick_field(field, tree: dict[str, Any], place: str, path: Path) -> Any:
    section = field.annotation
    if isinstance(section, type) and issubclass(section, Section):
        return {n: _pick_field(f, tree, f"{place}.{n}", path) for n, f in section.model_fields.items()}
    return lookup(tree, place, path)


def lookup(tree: dict[str, Any], place: str, path: Path = PATH) -> Any:
    """What stands at a dotted path; raises BadInput for one that the file does not have."""
    node: Any = tree
    for step in place.split("."):
        if not isinstance(node, dict) or step not in node:
            raise BadInput(f"{path}: {place} is missing; take its line from presets/toybirds.yaml")
        node = node[step]
    return node

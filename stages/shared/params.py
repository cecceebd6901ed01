"""Read a stage's own leaves of params.yaml into its pydantic model.

The model is the declaration: its leaf paths are the stage's `params:` list in dvc.yaml.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from stages.shared.errors import BadInput

PATH = Path("params.yaml")


class Loader(yaml.SafeLoader):
    """Numbers as in YAML 1.2: DVC writes 0.00005 as 5e-05, which YAML 1.1 takes for a word."""


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
        tree = yaml.load(path.read_text(), Loader)  # a SafeLoader
    except (OSError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: cannot be read ({' '.join(str(error).split())}); copy a file of presets/") from None
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: holds no parameters; copy a file of presets/ over it")
    return tree


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
        shown = "" if isinstance(first["input"], dict) else f" (it is {first['input']!r})"
        where = [str(path), *_place(first["loc"], places)]
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
    node: Any = tree
    for step in place.split("."):
        if not isinstance(node, dict) or step not in node:
            raise BadInput(f"{path}: {place} is missing; take its line from presets/toybirds.yaml")
        node = node[step]
    return node

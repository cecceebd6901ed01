"""The text of a preset: the template's lines, with other values, comments and head.

The template is presets/toybirds.yaml. ruamel.yaml says where each of its values stands; only the
lines of a preset's settings are written anew, and every other line is kept as it is. A setting of
a group of arms replaces all lines of its arms.
"""

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import takewhile
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node

from experiments.settings.paper_values import Commented, Settings

INDENT = "  "  # a level


def read_head(text: str) -> tuple[str, ...]:
    """The comment above the parameters."""
    return tuple(takewhile(lambda line: line.startswith("#"), text.splitlines()))


def render(template: str, head: tuple[str, ...], settings: Settings) -> str:
    """The template with these settings and another head.

    Raises KeyError for a setting that the template has no line for.
    """
    lines = template.splitlines()
    nodes = dict(_nodes(YAML().compose(template)))
    if unknown := sorted(set(settings) - set(nodes)):
        raise KeyError(f"the template has no line for {', '.join(unknown)}")

    # what follows each value on its line, which is its comment, if any
    ends = {path: node.end_mark for path, node in nodes.items() if not _is_section(node)}
    comments = {path: lines[end.line][end.column :] for path, end in ends.items()}

    # from the last line to the first, since a group may get more or fewer lines
    for path in sorted(settings, key=lambda path: nodes[path].start_mark.line, reverse=True):
        old = [end.line for each, end in ends.items() if f"{each}.".startswith(f"{path}.")]
        new = {path: settings[path]}
        if _is_section(nodes[path]):
            new = {f"{path}.{name}": arm for name, arm in settings[path].items()}

        written = [_line(each, value, comments.get(each, "")) for each, value in new.items()]
        lines[old[0] : old[-1] + 1] = written

    return "\n".join([*head, *lines[len(read_head(template)) :]]) + "\n"


def _nodes(section: Node, prefix: str = "") -> Iterator[tuple[str, Node]]:
    """Every section and value by its dotted path, in the file's order; an arm is a value."""
    for key, value in section.value:
        path = f"{prefix}{key.value}"
        yield path, value
        if _is_section(value):
            yield from _nodes(value, f"{path}.")


def _is_section(node: Node) -> bool:
    """Whether its entries have lines of their own, unlike an arm's."""
    return isinstance(node, MappingNode) and not node.flow_style


def _line(path: str, setting: Any, comment: str) -> str:
    """A line of the file, with the setting's own comment or else the given one."""
    if isinstance(setting, Commented):
        comment = f" # {setting.comment}"
        setting = setting.value

    *parents, key = path.split(".")
    return f"{INDENT * len(parents)}{key}: {spell(setting)}{comment}"


def spell(value: Any) -> str:
    """As the template spells it: null, [0.5], {p: 0.5}.

    A number has no exponent: YAML 1.1 reads 5e-05 as text.
    """
    match value:
        case None | bool():
            return json.dumps(value)  # JSON has the same words for them
        case float():
            return format(Decimal(repr(value)), "f")
        case list():
            return f"[{', '.join(map(spell, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {spell(each)}' for key, each in value.items())}}}"

    return str(value)

"""The text of a preset: that of Toybirds', in its order and layout, with other values, comments and head."""

import re
from collections.abc import Iterator
from decimal import Decimal
from itertools import takewhile
from typing import Any, NamedTuple

from experiments.settings.paper_values import Own, Settings

INDENT = 2  # columns a level
GROUPS = ("arms.real", "arms.synthetic")  # whose arms a preset lists anew
LINE = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>[^#]*?))?(?: # (?P<comment>.*))?")


class Line(NamedTuple):
    """A line of a parameter file; `path` is empty for one without a key."""

    text: str
    path: str = ""
    comment: str | None = None


def read_head(text: str) -> tuple[str, ...]:
    """The comment above the parameters."""
    return tuple(takewhile(lambda line: line.startswith("#"), text.splitlines()))


def parse(text: str) -> Iterator[Line]:
    """The lines below the head."""
    parents: list[str] = []
    for line in text.splitlines()[len(read_head(text)) :]:
        match = LINE.fullmatch(line)
        if match is None:
            yield Line(line)
            continue
        parents[len(match["indent"]) // INDENT :] = [match["key"]]
        yield Line(line, ".".join(parents), match["comment"])


def render(template: str, head: tuple[str, ...], settings: Settings) -> str:
    """The template with these settings and another head. Raises KeyError for a setting that it has no line for."""
    lines = list(parse(template))
    comments = {line.path: line.comment for line in lines if line.path}
    if unknown := sorted(set(settings) - set(comments)):
        raise KeyError(f"the template has no line for {', '.join(unknown)}")
    body: list[str] = []
    for line in lines:
        if line.path in GROUPS and line.path in settings:
            arms = settings[line.path]
            body += [
                line.text,
                *(_write(f"{line.path}.{name}", arm, comments) for name, arm in arms.items()),
            ]
        elif line.path in settings:
            body.append(_write(line.path, settings[line.path], comments))
        elif (
            line.path.rpartition(".")[0] not in settings
        ):  # else an arm of a group that the preset fills
            body.append(line.text)
    return "\n".join([*head, *body]) + "\n"


def _write(path: str, value: Any, comments: dict[str, str | None]) -> str:
    own = value if isinstance(value, Own) else Own(value, comments.get(path) or "")
    *parents, key = path.split(".")
    return (
        " " * INDENT * len(parents)
        + f"{key}: {spell(own.value)}"
        + (f" # {own.comment}" if own.comment else "")
    )


def spell(value: Any) -> str:
    """As Toybirds' spells it: 0.00005, which YAML 1.1 reads as a number, instead of 5e-05; null; [0.5]; {p: 0.5}."""
    match value:
        case None | bool():
            return {None: "null", True: "true", False: "false"}[value]
        case float():
            return format(Decimal(repr(value)), "f")
        case list():
            return f"[{', '.join(map(spell, value))}]"
        case dict():
            return f"{{{', '.join(f'{key}: {spell(each)}' for key, each in value.items())}}}"
    return str(value)

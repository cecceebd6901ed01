"""The difference of two parameter files, in the words of `dvc exp run -S` (Hydra's overrides)."""

from collections.abc import Iterator
from typing import Any

from hydra.core.override_parser.types import Quote, QuotedString


def overrides(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """What turns `before` into `after`.

    A changed leaf is path=value, a new one +path=value, one that is removed ~path.
    """
    for name, value in after.items():
        path = f"{prefix}{name}"
        old = before.get(name)

        if name not in before:
            yield f"+{path}={literal(value)}"
        elif isinstance(old, dict) and isinstance(value, dict):
            yield from overrides(old, value, f"{path}.")
        elif (old, type(old)) != (value, type(value)):
            yield f"{path}={literal(value)}"

    for name in before:
        if name not in after:
            yield f"~{prefix}{name}"


def literal(value: Any) -> str:
    """A value as Hydra parses it back; text is quoted, since n-2 or null would mean another."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return QuotedString(text=value, quote=Quote.single).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(literal, value))}]"
    if isinstance(value, dict):
        items = [f"{key}:{literal(item)}" for key, item in value.items()]
        return f"{{{','.join(items)}}}"

    return repr(value)

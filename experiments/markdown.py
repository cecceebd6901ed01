"""Tables as Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(lines: Iterable[Sequence[str]]) -> str:
    """The lines as they are: the head, its rule, and the rows."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Tables as Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(lines: Iterable[Sequence[str]]) -> str:
    """The lines as a table's text: the first is the head, the second its rule, then the rows."""
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Class names that people can read, and tell apart."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from stages.shared.errors import BadInput

# Unicode's categories: control characters, bytes that are no text, ends of a line or a paragraph
UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
# Letters that take no room: format characters, and what else Unicode calls ignorable by default,
# which are joiners, fillers, and the selectors of a letter's variants.
FORMAT = "Cf"
IGNORABLE = {
    0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0,
    *range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000),
}  # fmt: skip
BLANK = "\u2800"  # Braille's, which Unicode does not count among the spaces


def check_names(names: Sequence[str], where: Callable[[str], object], cure: str) -> None:
    """Raises BadInput for a name that cannot be printed, and for two that look the same.

    where: what a message calls a name.
    """
    seen: dict[str, str] = {}

    for name in names:
        if any(unicodedata.category(letter) in UNPRINTABLE for letter in name):
            raise BadInput(f"{str(where(name))!r}: the name has unprintable characters; {cure}")

        form = visible_form(name)
        if form in seen:
            raise BadInput(
                f"{where(name)}: looks like another class ({seen[form]!a}, {name!a}); {cure}"
            )
        seen[form] = name


def visible_form(name: str) -> str:
    """The name without what a reader cannot see: letters' spelling, spaces' kind and number."""
    letters = [
        letter
        for letter in name.replace(BLANK, " ")
        if unicodedata.category(letter) != FORMAT and ord(letter) not in IGNORABLE
    ]

    # spelled when they are gone: a joiner keeps a letter and its accent apart
    text = unicodedata.normalize("NFC", "".join(letters))
    return " ".join(text.split())


def with_spaces(names: Sequence[str]) -> list[str]:
    """The names with spaces for underscores; those that would look the same then stay."""
    words = [name.replace("_", " ") for name in names]
    counts = Counter(map(visible_form, words))

    return [
        changed if counts[visible_form(changed)] == 1 else name
        for name, changed in zip(names, words, strict=True)
    ]

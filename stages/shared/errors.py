"""What the user must fix, said in one line."""


class BadInput(SystemExit):
    """Ends the process with status 1 and one line: where, what is wrong, how to cure it."""

    def __init__(self, line: str = ""):
        """Escape what is unprintable in `line`.

        Names come from files, and could otherwise break the line or control the terminal.
        """
        super().__init__(
            "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
        )

"""What the user must fix, said in one line."""


class BadInput(SystemExit):
    """Ends the process with status 1 and one line: where, what is wrong, how to cure it."""

    def __init__(self, line: str = ""):
        """Names come from files: whatever in them would break the line, or speak to the terminal, is escaped."""
        super().__init__(
            "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)
        )

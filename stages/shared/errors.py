"""What the user must mend, said in one line."""


class BadInput(SystemExit):
    """Ends the process with status 1 and one line: where, what is wrong, how to cure it."""

"""A file's hash. Imports no library: whatever starts often asks for it."""

import hashlib
from pathlib import Path


def digest(path: Path) -> str:
    """The sha256 of a file's content, in hexadecimal digits; raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

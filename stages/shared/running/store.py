"""Finished images, kept for later runs: a plan that shares rows with an earlier one is cheaper.

It is a cache beside DVC's, of single images, under names that hash everything that determines an
image. DIFFMIX_STORE says how many GiB it may take; 0 turns it off. What was used longest ago goes
first.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stages.shared.running.runtime import store_bytes


def name_of(*parts: object) -> str:
    """A file's name, of all that determines its content."""
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:40]


class Store:
    """The files of one stage."""

    def __init__(self, stage: str):
        self.folder = Path(os.environ.get("DVC_ROOT", ".")) / ".work" / "store" / stage
        self.limit = store_bytes()
        self.taken = 0  # bytes, by this process

    def is_on(self) -> bool:
        return self.limit > 0

    def give(self, name: str, path: Path) -> bool:
        """Put a stored file at `path`; returns whether there is one."""
        stored = self._path(name)

        try:
            if not stored.stat().st_size:  # a machine that lost its power may leave such a file
                return False
            os.utime(stored)  # it was used now
            os.link(stored, path)
        except FileNotFoundError:
            return False
        except OSError:  # a file system without hard links
            new = path.with_suffix(f".{os.getpid()}")
            shutil.copyfile(stored, new)
            new.replace(path)  # whole, or not there

        return True

    def take(self, path: Path, name: str) -> None:
        """Move a file into the store, unless this run has filled it already."""
        size = path.stat().st_size
        if self.taken + size > self.limit:
            return

        self.taken += size
        stored = self._path(name)
        stored.parent.mkdir(parents=True, exist_ok=True)
        path.replace(stored)

    def __str__(self) -> str:
        """How much it holds, for people."""
        sizes = [size for _, size, _ in self._files()]
        return (
            f"store of finished images: {len(sizes)} in {self.folder}, {sum(sizes) / 2**20:.1f} of "
            f"at most {self.limit / 2**20:.0f} MiB (DIFFMIX_STORE)"
        )

    def trim(self) -> None:
        """Remove what was used longest ago, down to the limit."""
        files = sorted(self._files(), reverse=True)  # the last used first
        held = 0

        for _, size, path in files:
            held += size
            if held > self.limit:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """When each file was used, its bytes and its path."""
        for path in self.folder.rglob("*"):
            with suppress(FileNotFoundError):  # another run has just removed it
                status = path.stat()
                if path.is_file():
                    yield status.st_mtime, status.st_size, path

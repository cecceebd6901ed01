"""How much memory this process may take."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from stages.shared.running.runtime import local_processes

GROUPS = Path("/sys/fs/cgroup")
LISTING = Path("/proc/self/cgroup")  # which groups this process is in
# a control group's limit, what it holds, and what of it is cache that goes when it is needed
VERSION_2 = ("memory.max", "memory.current", "inactive_file")
VERSION_1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def free_memory() -> int:
    """Bytes: this process's part of what the machine has, or the container, or the job."""
    free = min([psutil.virtual_memory().available, *left_in_groups()])
    return max(free, 0) // local_processes()


def left_in_groups() -> Iterator[int]:
    """What each control group around this process has left, where it has a limit."""
    lines = LISTING.read_text().splitlines() if LISTING.exists() else []

    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            root, names = GROUPS, VERSION_2
        elif "memory" in controllers.split(","):
            root, names = GROUPS / "memory", VERSION_1
        else:
            continue

        innermost = root / group.lstrip("/")
        for folder in (innermost, *innermost.parents):
            if folder.is_relative_to(root):
                with suppress(OSError, ValueError, KeyError):  # not seen from here, or no limit
                    yield left_in(folder, *names)


def left_in(folder: Path, limit: str, held: str, cache: str) -> int:
    """Bytes; raises ValueError where there is no limit."""
    statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    in_use = int((folder / held).read_text()) - int(statistics[cache])
    return int((folder / limit).read_text()) - in_use

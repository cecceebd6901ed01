"""Progress of long work: tqdm's bar in a terminal; where there is none, a line a minute.

A log, as of CI, a cluster's scheduler or `dvc queue logs`, would keep every state of a bar.
"""

import sys
import time
from typing import Any

from tqdm import tqdm

SECONDS = 60  # between two lines
SHORT = 10  # seconds; what takes less has no line at its end
UNDER_WAY = "{desc}: {n_fmt} of {total_fmt}, {rate_fmt}, {remaining} left"
BEGUN = "{desc}: {n_fmt} of {total_fmt}"
UNCOUNTED = "{desc}: {n_fmt}, {rate_fmt}"
ENDED = "{desc}: {n_fmt}{units} in {elapsed}"


class Progress(tqdm):
    """tqdm; where stderr is no terminal, lines every SECONDS and one at the end, for its bar."""

    def __init__(self, *args: Any, **options: Any):
        self.lines = not sys.stderr.isatty()
        self.written = time.monotonic()
        if self.lines:
            options |= {"mininterval": SECONDS, "miniters": 1, "maxinterval": 0, "leave": False}
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the state: tqdm calls it at the beginning, whenever it is due, and at the end."""
        if not self.lines:
            return super().display(msg, pos)  # type: ignore[func-returns-value]

        if msg is None and time.monotonic() - self.written >= SECONDS:
            counted = UNDER_WAY if self.n else BEGUN  # there is no rate before the first is done
            self._write(counted if self.total else UNCOUNTED)
        return None

    def close(self) -> None:
        """Say how long it took; once, and not of what took no time."""
        if self.lines and not self.disable and self.format_dict["elapsed"] >= SHORT:
            self._write(ENDED)
        super().close()

    def _write(self, form: str) -> None:
        ending = "es" if self.unit == "batch" else "s"
        units = f" {self.unit}{ending}" if len(self.unit) > 2 else ""  # not of "B" and "it"
        state = {**self.format_dict, "bar_format": form, "units": units}
        line = self.format_meter(**state)
        with self.get_lock():
            self.fp.write(line.replace("  ", " ") + "\n")
            self.fp.flush()
        self.written = time.monotonic()

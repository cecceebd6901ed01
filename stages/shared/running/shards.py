"""A table whose images come one by one, from several processes, in any order.

An image is a file until its shard is whole; whoever has made the shard's last image writes it. So
the work is shared by batches, not by shards, and what was made before an interruption is kept.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from stages.shared.files import write_csv
from stages.shared.manifests import read_manifest
from stages.shared.running.store import Store
from stages.shared.tables import SHARD_ROWS, locate_rows, shard_name, write_shard

PATIENCE = 120.0  # seconds; network file systems remember for a minute that a file was not there


class Shards:
    """The shards of the table to be, in a work folder.

    rows: the manifest to be. stored_name: what the store calls a row's image, by the row's number.
    """

    def __init__(
        self, work: Path, rows: pd.DataFrame, store: Store, stored_name: Callable[[int], str]
    ):
        self.work = work
        self.rows = rows
        self.keys = rows["key"].to_numpy()
        self.store = store
        self.stored_name = stored_name
        self.count = -(-len(rows) // SHARD_ROWS)
        self.wanted = np.ones(len(rows), bool)  # of the images, which are to be made

    def take_stored(self) -> int:
        """Take what the store has of the images that are lacking; returns how many these are."""
        if not self.store.folder.exists():
            return 0

        taken = 0
        lacking = self.lacking()
        for shard in range(self.count):
            self._folder(shard).mkdir(parents=True, exist_ok=True)
            for row in self._range(shard):
                if lacking[row]:
                    taken += self.store.give(self.stored_name(row), self._path(row))

        return taken

    def lacking(self) -> np.ndarray:
        """Which images nobody has made yet, bool (rows,)."""
        lacking = np.ones(len(self.rows), bool)

        for shard in range(self.count):
            rows = self._numbers(shard)
            made = self._made(shard)
            if self._is_written(shard):
                lacking[rows] = False
            elif made:
                lacking[rows] = [key not in made for key in self.keys[rows]]

        return lacking

    def add(self, numbers: Iterable[int], images: Iterable[bytes]) -> None:
        """Keep the encoded images of these rows, and write each shard that has become whole.

        What was not wanted when the work was shared is left alone: another process may be at it.
        """
        touched = set()

        for number, image in zip(numbers, images, strict=True):
            shard = number // SHARD_ROWS
            if not self.wanted[number]:
                continue

            path = self._path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(f".{os.getpid()}")
            new.write_bytes(image)
            new.replace(path)  # whole, or not there
            touched.add(shard)

        for shard in sorted(touched):
            self._write_if_whole(shard)

    def finish(self) -> pd.DataFrame:
        """Write the shards whose last image was there before; returns the whole manifest."""
        for shard in range(self.count):
            self._write_if_whole(shard)
            self._wait_for(shard)

        names = map(shard_name, range(self.count))
        return pd.concat([read_manifest(self.work, name=f"{name}.csv") for name in names])

    def _wait_for(self, shard: int) -> None:
        """Until it is there: what another node has written a network's file system shows later."""
        end = time.monotonic() + PATIENCE
        while not self._is_written(shard) and time.monotonic() < end:
            time.sleep(1)
            self._write_if_whole(shard)

    def _numbers(self, shard: int) -> slice:
        return slice(shard * SHARD_ROWS, (shard + 1) * SHARD_ROWS)

    def _range(self, shard: int) -> range:
        return range(len(self.rows))[self._numbers(shard)]

    def _folder(self, shard: int) -> Path:
        return self.work / "images" / shard_name(shard)

    def _path(self, number: int) -> Path:
        return self._folder(number // SHARD_ROWS) / f"{self.keys[number]}.png"

    def _is_written(self, shard: int) -> bool:
        name = shard_name(shard)
        return (self.work / f"{name}.csv").exists() and (self.work / "result" / name).exists()

    def _made(self, shard: int) -> set[str]:
        """The keys of the shard's images that are there; a loss of power may leave empty files."""
        with (
            suppress(FileNotFoundError),  # another process has just written the shard
            os.scandir(self._folder(shard)) as entries,
        ):
            images = [entry for entry in entries if entry.name.endswith(".png")]
            return {entry.name.removesuffix(".png") for entry in images if entry.stat().st_size}
        return set()

    def _write_if_whole(self, shard: int) -> None:
        if self._is_written(shard) or len(self._made(shard)) < len(self.keys[self._numbers(shard)]):
            return

        with (self.work / f"{shard_name(shard)}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another process is at it

            if not self._is_written(shard):
                self._write(shard)

    def _write(self, shard: int) -> None:
        """Write the shard and its part of the manifest; its images go to the store.

        Both files are renamed when they are complete and on the disk, so that a run that is killed,
        or a machine that loses its power, leaves each whole or absent.
        """
        name = shard_name(shard)
        rows = self._range(shard)
        paths = [self._path(row) for row in rows]
        (self.work / "result").mkdir(exist_ok=True)

        unfinished = self.work / f"{name}.new"
        images = ((path.name, path.read_bytes()) for path in paths)
        part = self.rows.iloc[self._numbers(shard)]
        extents = write_shard(unfinished, images, part["label"])
        _rename(unfinished, self.work / "result" / name)

        write_csv(unfinished, locate_rows(part, name, extents))
        _rename(unfinished, self.work / f"{name}.csv")

        if self.store.is_on():
            for row, path in zip(rows, paths, strict=True):
                self.store.take(path, self.stored_name(row))
        shutil.rmtree(self._folder(shard), ignore_errors=True)


def _rename(file: Path, path: Path) -> None:
    """Rename a file after its content is on the disk: else a loss of power may leave it empty."""
    with file.open("rb") as written:
        os.fsync(written.fileno())
    file.replace(path)

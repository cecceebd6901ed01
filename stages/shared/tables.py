"""Image tables: a folder with manifest.csv and tar shards, read at (offset, size).

The tars have sorted keys and fixed owners and times, so that equal content is equal bytes. They are
WebDataset's, too: <key>.png or .jpg or .webp, and <key>.cls, the label's number.
"""

import io
import mmap
import tarfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.shared.errors import BadInput
from stages.shared.files import write_csv
from stages.shared.manifests import COLUMNS, read_manifest, shown

SHARD_ROWS = 1000
BLOCK = 512  # tar's unit
FORMATS = ("JPEG", "PNG", "WEBP")  # of a table's images


def write_shard(
    path: Path, images: Iterable[tuple[str, bytes]], labels: Iterable[int]
) -> list[tuple[int, int]]:
    """Write named, encoded images and their labels as a tar.

    Returns where each image lies: (offset, size) in bytes.
    """
    extents = []

    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for (name, content), label in zip(images, labels, strict=True):
            extents.append((tar.offset + BLOCK, len(content)))
            add_file(tar, name, content)
            add_file(tar, f"{Path(name).stem}.cls", str(label).encode())

    return extents


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def write_table(folder: Path, images: Iterable[bytes], rows: pd.DataFrame) -> None:
    """Write a whole table.

    `rows` has `label` and the table's own columns, in the order of `images`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows.reset_index(drop=True)
    rows.insert(0, "key", [f"{row:08d}" for row in range(len(rows))])

    contents = iter(images)
    parts = []
    for first in range(0, len(rows), SHARD_ROWS):
        part = rows.iloc[first : first + SHARD_ROWS]
        shard = shard_name(first // SHARD_ROWS)
        # keys come first in zip, so that it takes no image beyond the shard
        pairs = zip(part["key"], contents, strict=False)
        named = ((f"{key}.{image_suffix(content)}", content) for key, content in pairs)
        extents = write_shard(folder / shard, named, part["label"])
        parts.append(locate_rows(part, shard, extents))

    assert next(contents, None) is None, "more images than rows"
    write_csv(folder / "manifest.csv", pd.concat(parts) if parts else locate_rows(rows, "", []))


def image_suffix(content: bytes) -> str:
    """png, jpg or webp, by the first bytes; raises KeyError for anything else."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    return {b"\x89P": "png", b"\xff\xd8": "jpg"}[content[:2]]


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


def locate_rows(rows: pd.DataFrame, shard: str, extents: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Add the columns that say where each image lies."""
    offsets = [offset for offset, _ in extents]
    sizes = [size for _, size in extents]
    located = rows.assign(shard=shard, offset=offsets, size=sizes)

    return located[COLUMNS + [name for name in rows.columns if name not in COLUMNS]]


class Table:
    """The images of a table, by row; `rows` may be any selection of the table's manifest."""

    def __init__(self, folder: Path, rows: pd.DataFrame | None = None):
        self.folder = folder.resolve()  # shards are mapped once a process, by path
        self.rows = read_manifest(folder) if rows is None else rows.reset_index(drop=True)

        codes, shards = pd.factorize(self.rows["shard"])
        self._shards = codes.astype(np.int32)
        self._paths = [self.folder / str(shard) for shard in shards]
        self._offsets = self.rows["offset"].to_numpy(np.int64)
        self._sizes = self.rows["size"].to_numpy(np.int64)
        self._check_shards()

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> bytes:
        """The encoded image."""
        offset = int(self._offsets[row])
        return _mapped(self._paths[self._shards[row]])[offset : offset + int(self._sizes[row])]

    def image(self, row: int) -> Image.Image:
        """The decoded image, RGB; raises BadInput, naming the shard, where the bytes are none."""
        try:
            return Image.open(io.BytesIO(self.read(row)), formats=FORMATS).convert("RGB")
        except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error
            raise self._damaged(row, type(error).__name__) from None

    def suffix(self, row: int) -> str:
        """png, jpg or webp; raises BadInput as `image` does."""
        try:
            return image_suffix(self.read(row))
        except KeyError:
            raise self._damaged(row, "no png, jpg or webp") from None

    def _damaged(self, row: int, reason: str) -> BadInput:
        key = self.rows["key"].iloc[row]
        path = self._paths[self._shards[row]]
        return BadInput(
            f"{path}: holds no image for key {shown(key)} ({reason}); "
            "get it back with `dvc checkout -f`"
        )

    def _check_shards(self) -> None:
        """Raises BadInput for a shard that ends before the last of its images does."""
        ends = np.zeros(len(self._paths), np.int64)
        np.maximum.at(ends, self._shards, self._offsets + self._sizes)

        for path, end in zip(self._paths, ends, strict=True):
            held = path.stat().st_size if path.is_file() else 0
            if held < end:
                raise BadInput(
                    f"{path}: truncated, {held} bytes of at least {end}; "
                    "get it back with `dvc checkout -f`"
                )


@cache
def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def encode_png(image: Image.Image) -> bytes:
    """Lossless and the same bytes everywhere; level 1 is six times faster than the default."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()

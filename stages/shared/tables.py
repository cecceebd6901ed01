"""Image tables: a folder with manifest.csv and tar shards, read at (offset, size).

Columns: key, shard, offset, size, label, then the table's own. The tars have sorted names and fixed owners and times,
so that equal content is equal bytes; WebDataset reads them too.
"""

import io
import mmap
import tarfile
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pandas as pd
from PIL import Image

from stages.shared.errors import BadInput

SHARD_ROWS = 1000
COLUMNS = ["key", "shard", "offset", "size", "label"]
CLASS_COLUMNS = ["index", "name", "metaclass", "token"]
TEXT = {"key": str, "shard": str, "source_key": str, "group": str}
BLOCK = 512  # tar's unit


def write_shard(path: Path, images: Iterable[tuple[str, bytes]]) -> list[tuple[int, int]]:
    """Write encoded images as a tar; returns where each lies: (offset, size) in bytes."""
    places = []
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in images:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            places.append((tar.offset + BLOCK, len(content)))
            tar.addfile(info, io.BytesIO(content))
    return places


def write_table(folder: Path, images: Iterable[bytes], rows: pd.DataFrame) -> None:
    """Write a whole table; `rows` has `label` and the table's own columns, in the order of `images`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = rows.reset_index(drop=True)
    rows.insert(0, "key", [f"{row:08d}" for row in range(len(rows))])
    contents, parts = iter(images), []
    for first in range(0, len(rows), SHARD_ROWS):
        part = rows.iloc[first : first + SHARD_ROWS]
        shard = shard_name(first // SHARD_ROWS)
        pairs = zip(part["key"], contents, strict=False)  # keys first, so that no image beyond the shard is taken
        named = ((f"{key}.{image_suffix(content)}", content) for key, content in pairs)
        parts.append(place_rows(part, shard, write_shard(folder / shard, named)))
    assert next(contents, None) is None, "more images than rows"
    write_manifest(folder, pd.concat(parts) if parts else place_rows(rows, "", []))


def image_suffix(content: bytes) -> str:
    """png, jpg or webp, by the first bytes."""
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "webp"
    return {b"\x89P": "png", b"\xff\xd8": "jpg"}[content[:2]]


def shard_name(number: int) -> str:
    return f"shard-{number:05d}.tar"


def place_rows(rows: pd.DataFrame, shard: str, places: Sequence[tuple[int, int]]) -> pd.DataFrame:
    """Add the columns that say where each image lies."""
    offsets, sizes = [place[0] for place in places], [place[1] for place in places]
    placed = rows.assign(shard=shard, offset=offsets, size=sizes)
    return placed[COLUMNS + [name for name in rows.columns if name not in COLUMNS]]


def write_manifest(folder: Path, rows: pd.DataFrame, name: str = "manifest.csv") -> None:
    rows.to_csv(folder / name, index=False, lineterminator="\n")


def read_manifest(folder: Path, columns: Sequence[str] = (), name: str = "manifest.csv") -> pd.DataFrame:
    """The rows of a table, checked: columns there, keys unique.

    A manifest may list rows of a table that lies elsewhere (subsample, filter); `Table` looks at the shards.
    """
    path = folder / name
    if not path.is_file():
        raise BadInput(f"{path}: there is no such table; run `dvc repro` (or `dvc checkout`) first")
    rows = pd.read_csv(path, dtype=TEXT, keep_default_na=False)  # type: ignore[arg-type]
    missing = [column for column in [*COLUMNS, *columns] if column not in rows.columns]
    if missing:
        raise BadInput(f"{path}: column {missing[0]!r} is missing; make the table anew with `dvc repro -f`")
    if rows["key"].duplicated().any():
        raise BadInput(f"{path}: key {rows.loc[rows['key'].duplicated(), 'key'].iloc[0]!r} stands there twice")
    return rows


class Table:
    """The images of a table, by row; `rows` may be any selection of the table's manifest."""

    def __init__(self, folder: Path, rows: pd.DataFrame | None = None):
        self.folder = folder.resolve()  # shards are mapped once a process, by path
        self.rows = read_manifest(folder) if rows is None else rows.reset_index(drop=True)
        self._places = list(zip(self.rows["shard"], self.rows["offset"], self.rows["size"], strict=True))
        self._check_shards()

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, row: int) -> bytes:
        """The encoded image."""
        shard, offset, size = self._places[row]
        return _mapped(self.folder / shard)[offset : offset + size]

    def image(self, row: int) -> Image.Image:
        """The decoded image, RGB."""
        return Image.open(io.BytesIO(self.read(row))).convert("RGB")

    def _check_shards(self) -> None:
        ends = (self.rows["offset"] + self.rows["size"]).groupby(self.rows["shard"]).max()
        for shard, end in ends.items():
            path = self.folder / str(shard)
            held = path.stat().st_size if path.is_file() else 0
            if held < end:
                raise BadInput(f"{path}: truncated, {held} bytes of at least {end}; get it back with `dvc checkout -f`")


@cache
def _mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def encode_png(image: Image.Image) -> bytes:
    """Lossless and the same bytes everywhere; level 1 is six times faster than the default."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def token_name(index: int) -> str:
    """The identifier V_i of a class: plain letters, whatever the class is called."""
    return f"<class-{index:04d}>"


def write_classes(folder: Path, names: Sequence[str], metaclass: str) -> None:
    classes = pd.DataFrame({"index": range(len(names)), "name": names, "metaclass": metaclass})
    classes["token"] = [token_name(index) for index in range(len(names))]
    classes.to_csv(folder / "classes.csv", index=False, lineterminator="\n")


def read_classes(folder: Path) -> pd.DataFrame:
    """The one place where classes are spelled: index, name, metaclass, token."""
    path = folder / "classes.csv"
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro download` first")
    types = {"name": str, "metaclass": str, "token": str}
    classes = pd.read_csv(path, dtype=types, keep_default_na=False)  # type: ignore[arg-type]
    if list(classes.columns) != CLASS_COLUMNS:
        raise BadInput(f"{path}: columns must be {', '.join(CLASS_COLUMNS)}; run `dvc repro -f download`")
    return classes

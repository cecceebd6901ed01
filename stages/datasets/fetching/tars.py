"""Members of a tar archive, read where they lie: nothing is extracted, so nothing can land beside its folder.

A gzipped archive is unpacked once into a nameless file, which ends with the process. An archive that would be dangerous
to extract is refused none the less: it is not what it says it is.
"""

import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm

from stages.datasets.dataset import Dataset, Split
from stages.datasets.fetching.archives import home
from stages.datasets.images import ImageFile, check_images, encode_images
from stages.shared.errors import BadInput

GZIP = b"\x1f\x8b"
LARGEST_MEMBER = 1 << 30  # bytes; an image of any of the datasets has a few million
LARGEST_ARCHIVE = 1 << 36  # bytes unpacked; the largest of the datasets has 3 GB
CHUNK = 1 << 20
REFUSED = "it is not the archive that its authors publish; get it anew"


class Member(NamedTuple):
    """A file inside an archive, with what `check_images` and `encode_images` use of a Path."""

    tar: "Tar"
    name: str

    def __str__(self) -> str:
        return f"{self.tar.path}: {self.name}"

    def read_bytes(self) -> bytes:
        return self.tar.read(self.name)


class Tar:
    """Raises BadInput for an archive that cannot be read, or that holds what no dataset does."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = _unpacked(path)
            self._places = dict(_list_members(path, self._file))
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadInput(
                f"{path}: is no whole archive ({' '.join(str(error).split())}); {REFUSED}"
            ) from None

    def read(self, name: str) -> bytes:
        """A member's bytes; threads may read side by side."""
        if name not in self._places:
            raise BadInput(f"{self.path}: holds no {name}; {REFUSED}")
        offset, size = self._places[name]
        return os.pread(self._file.fileno(), size, offset)

    def lines(self, name: str) -> list[str]:
        """Those of a text file, without the empty ones."""
        return [line.strip() for line in self.read(name).decode().splitlines() if line.strip()]

    def members(self, names: Iterable[str]) -> list[Member]:
        """Raises BadInput for a name that the archive lacks."""
        wanted = [Member(self, name) for name in names]
        for member in wanted:
            if member.name not in self._places:
                raise BadInput(f"{self.path}: holds no {member.name}; {REFUSED}")
        return wanted


class Listed(NamedTuple):
    """A split before its images are read: `rows` as in Split, and a file for each of them."""

    rows: pd.DataFrame
    files: Sequence[ImageFile]


def assemble(classes: list[str], splits: dict[str, Listed]) -> Dataset:
    """Check all images, and have them encoded when they are asked for."""
    check_images([file for split in splits.values() for file in split.files])
    return Dataset(
        classes, {name: Split(rows, encode_images(files)) for name, (rows, files) in splits.items()}
    )


def label_rows(labels: Mapping[str, int]) -> pd.DataFrame:
    """Rows of a split, of the labels of its members."""
    return pd.DataFrame({"label": list(labels.values())})


def read_mat(content: bytes) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file; single ones as arrays of one."""
    from scipy.io import loadmat

    return {
        name: np.atleast_1d(value)
        for name, value in loadmat(io.BytesIO(content), squeeze_me=True).items()
    }


def _unpacked(path: Path) -> IO[bytes]:
    """The tar itself, open as long as its images are needed."""
    file = path.open("rb")
    packed = file.read(2) == GZIP
    file.seek(0)
    if not packed:
        return file
    plain = tempfile.TemporaryFile(dir=home())  # noqa: SIM115 - stays open; there is room beside the archives
    with (
        tqdm.wrapattr(file, "read", path.stat().st_size, desc=f"unpacking {path.name}") as bar,
        gzip.open(bar, "rb") as stream,  # type: ignore[call-overload]
    ):
        while chunk := stream.read(CHUNK):
            plain.write(chunk)
            if plain.tell() > LARGEST_ARCHIVE:
                raise BadInput(f"{path}: unpacks to more than {LARGEST_ARCHIVE} bytes; {REFUSED}")
    plain.flush()
    return plain


def _list_members(path: Path, file: IO[bytes]) -> Iterable[tuple[str, tuple[int, int]]]:
    """Name and (offset, size) of each regular file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if reason := _danger(info):
                raise BadInput(f"{path}: {info.name} {reason}; {REFUSED}")
            if info.isreg() and info.offset_data + info.size > end:
                raise tarfile.ReadError("unexpected end of data")
            if info.isreg():
                yield (
                    str(PurePosixPath(info.name)),
                    (info.offset_data, info.size),
                )  # without a leading ./


def _danger(info: tarfile.TarInfo) -> str | None:
    """What would make a member dangerous to extract (as tarfile's data filter and a little more), or None."""
    parts = PurePosixPath(info.name).parts
    if info.name.startswith("/"):
        return "has an absolute path"
    if ".." in parts:
        return "leads out of the archive"
    if info.size > LARGEST_MEMBER or info.size < 0:
        return f"is said to have {info.size} bytes"
    if info.issparse() or not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        return "is a device, or no plain file"
    try:
        tarfile.data_filter(info, "/archive")
    except tarfile.FilterError:
        return f"links to {info.linkname}, out of the archive"
    return None

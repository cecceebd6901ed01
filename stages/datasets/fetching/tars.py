"""Members of a tar archive, read where they lie.

Nothing is extracted, so nothing can land beside its folder. A gzipped archive is unpacked once into
a nameless file, which ends with the process. An archive that would be dangerous to extract is
refused none the less: it is not what it says it is.
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

from stages.datasets.dataset import Dataset, Split
from stages.datasets.fetching.archives import archive_folder
from stages.datasets.images import ImageFile, check_images, encode_images
from stages.shared.errors import BadInput
from stages.shared.watching.progress import Progress

GZIP = b"\x1f\x8b"
LARGEST_MEMBER = 1 << 30  # bytes; an image of any of the datasets has a few million
LARGEST_ARCHIVE = 1 << 36  # bytes unpacked; the largest of the datasets has 3 GB
CHUNK = 1 << 20
REFUSED = "it is not the archive that its authors publish; remove it, and get it anew"


class Member(NamedTuple):
    """A file inside an archive, with what `check_images` and `encode_images` use of a Path."""

    tar: "Tar"
    name: str

    def __str__(self) -> str:
        return f"{self.tar.path}: {self.name}"

    def read_bytes(self) -> bytes:
        return self.tar.read(self.name)


class Tar:
    """A tar archive, open, with the offset and size of each of its files.

    Raises BadInput for an archive that cannot be read, or that holds what no dataset does.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._file = _unpacked(path)
            self._extents = dict(_list_members(path, self._file))
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadInput(
                f"{path}: is no whole archive ({' '.join(str(error).split())}); {REFUSED}"
            ) from None

    def read(self, name: str) -> bytes:
        """A member's bytes; threads may read side by side."""
        if name not in self._extents:
            raise BadInput(f"{self.path}: holds no {name}; {REFUSED}")

        offset, size = self._extents[name]
        return os.pread(self._file.fileno(), size, offset)

    def lines(self, name: str) -> list[str]:
        """The lines of a text file, stripped, without the empty ones."""
        lines = self.read(name).decode().splitlines()
        return [line.strip() for line in lines if line.strip()]

    def members(self, names: Iterable[str]) -> list[Member]:
        """Raises BadInput for a name that the archive lacks."""
        wanted = [Member(self, name) for name in names]
        for member in wanted:
            if member.name not in self._extents:
                raise BadInput(f"{self.path}: holds no {member.name}; {REFUSED}")

        return wanted


class Listed(NamedTuple):
    """A split before its images are read: `rows` as in Split, and a file for each of them."""

    rows: pd.DataFrame
    files: Sequence[ImageFile]


def assemble(classes: list[str], splits: dict[str, Listed]) -> Dataset:
    """Check all images, and have them encoded when they are asked for."""
    encoded = {name: Split(rows, encode_images(files)) for name, (rows, files) in splits.items()}
    dataset = Dataset(classes, encoded)  # which refuses names before minutes of checking images

    check_images([file for split in splits.values() for file in split.files])
    return dataset


def list_members(tar: Tar, labels: Mapping[str, int]) -> Listed:
    """A split of an archive's members, whose names have their labels in `labels`."""
    rows = pd.DataFrame({"label": list(labels.values())})
    return Listed(rows, tar.members(labels))


def read_mat(content: bytes) -> dict[str, np.ndarray]:
    """The variables of a MATLAB file; single ones as arrays of one."""
    from scipy.io import loadmat

    variables = loadmat(io.BytesIO(content), squeeze_me=True)
    return {name: np.atleast_1d(value) for name, value in variables.items()}


def _unpacked(path: Path) -> IO[bytes]:
    """The tar itself, open as long as its images are needed."""
    file = path.open("rb")
    packed = file.read(2) == GZIP
    file.seek(0)
    if not packed:
        return file

    # beside the archives, where there is room; it stays open, since the members are read from it
    plain = tempfile.TemporaryFile(dir=archive_folder())  # noqa: SIM115
    with (
        Progress.wrapattr(file, "read", path.stat().st_size, desc=f"unpacking {path.name}") as bar,
        gzip.open(bar, "rb") as stream,  # type: ignore[call-overload]
    ):
        while chunk := stream.read(CHUNK):
            plain.write(chunk)
            if plain.tell() > LARGEST_ARCHIVE:
                raise BadInput(f"{path}: unpacks to more than {LARGEST_ARCHIVE} bytes; {REFUSED}")

    plain.flush()
    return plain


def _list_members(path: Path, file: IO[bytes]) -> Iterable[tuple[str, tuple[int, int]]]:
    """Name, without a leading ./, and (offset, size) of each regular file."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)

    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if reason := _danger(info):
                raise BadInput(f"{path}: {info.name} {reason}; {REFUSED}")
            if info.isreg() and info.offset_data + info.size > end:
                raise tarfile.ReadError("unexpected end of data")
            if info.isreg():
                yield str(PurePosixPath(info.name)), (info.offset_data, info.size)


def _danger(info: tarfile.TarInfo) -> str | None:
    """What would make a member dangerous to extract, or None.

    As tarfile's data filter has it, and a little more.
    """
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

"""The archives that a dataset is published as: fetched once, kept, verified before they are opened.

They lie outside DVC's outputs, in .work/archives of the repository or in the folder that
DIFFMIX_ARCHIVES names, and survive failed runs. Where no checksum is published, that of the first
archive that could be read is recorded beside it and holds from then on; one that is committed in
checksums.csv, beside this module, holds for everybody.
"""

import csv
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stages.datasets.fetching.transfer import CURE, transfer
from stages.shared.errors import BadInput

log = logging.getLogger(__name__)
CHECKSUMS = Path(__file__).with_name("checksums.csv")


class Archive(NamedTuple):
    """A file as its authors publish it.

    It lies in the folder `site`; its checksum is written algorithm:hex, None where none is
    published.
    """

    name: str
    site: str
    checksum: str | None = None


class Mirror(NamedTuple):
    """Where else the user says that archives are.

    `url` is data.url, the address of a mirror's folder; `archive` is data.archive, a folder or
    file.
    """

    url: str | None = None
    archive: str | None = None


def archive_folder() -> Path:
    """The folder of archives; it is made where it does not exist."""
    default = Path(os.environ.get("DVC_ROOT", "."), ".work/archives")
    folder = Path(os.environ.get("DIFFMIX_ARCHIVES") or default)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"{folder}: cannot hold archives ({error.strerror}); name a folder by DIFFMIX_ARCHIVES"
        ) from None
    return folder


@contextmanager
def fetch(archives: Sequence[Archive], mirror: Mirror) -> Iterator[list[Path]]:
    """Where each archive lies, verified; raises BadInput, naming the archive and the cure.

    To be read inside: a checksum that nobody knows is recorded at the end, where all went well.
    """
    if mirror.archive:
        alone = len(archives) == 1
        paths = [_find(archive, mirror.archive, alone) for archive in archives]
    else:
        paths = [_download(archive, mirror) for archive in archives]

    yield paths

    for archive, path in zip(archives, paths, strict=True):
        if _expected(archive) is None:
            record_checksum(archive.name, checksum(path, "sha256:"))


def user_path(path: str) -> Path:
    """data.archive as a path: from the repository's root, or from the user's home."""
    return Path(os.environ.get("DVC_ROOT", "."), os.path.expanduser(path))


def record_checksum(name: str, digest: str) -> None:
    """Record the checksum of what could be read; what could not must not bar what can."""
    file = _record(name)
    file.write_text(digest + "\n")
    log.warning(
        "%s: no checksum is published, so %s is recorded in %s and must stay; to hold others "
        "to it, add the line `%s,%s` to stages/datasets/fetching/checksums.csv",
        name, digest, file, name, digest,
    )  # fmt: skip


def recorded_checksum(name: str) -> str | None:
    """The checksum of an archive for which none is published.

    It is known where the archive was used before, on this machine or by whoever committed it.
    """
    committed = _committed()
    if name in committed:
        return committed[name]

    local = _record(name)
    return (local.read_text().strip() if local.is_file() else "") or None


def unrecord(name: str) -> str:
    """How to take back what is recorded, as the end of a message."""
    file = CHECKSUMS if name in _committed() else _record(name)
    return f"if the recorded one is wrong, remove it from {file}"


def _committed() -> dict[str, str]:
    """The checksums that hold for everybody."""
    with CHECKSUMS.open(newline="") as file:
        return {row["name"]: row["checksum"] for row in csv.DictReader(file) if row["checksum"]}


def _record(name: str) -> Path:
    """The file that holds the recorded checksum."""
    return archive_folder() / f"{name.replace('/', '--')}.checksum"


def _expected(archive: Archive) -> str | None:
    return archive.checksum or recorded_checksum(archive.name)


def _cure(archive: Archive, cure: str) -> str:
    """What helps against another checksum than the expected one."""
    return cure if archive.checksum else f"{cure}; {unrecord(archive.name)}"


def _find(archive: Archive, path: str, alone: bool) -> Path:
    """The archive as downloaded by hand; `alone`: the dataset has no other."""
    root = user_path(path)
    if os.path.isfile(root) and not alone:
        raise BadInput(
            f"params.yaml: data.archive: {root} is one file of several; "
            "name the folder that holds them all"
        )

    file = root if os.path.isfile(root) else root / archive.name
    if not os.path.isfile(file):
        raise BadInput(
            f"params.yaml: data.archive: there is no {file}; "
            f"put it there from {archive.site}, or set data.archive to null"
        )

    expected = _expected(archive)
    if expected is None:
        _refuse_page(archive, file)
        return file

    digest = checksum(file, expected)
    if digest != expected:
        cure = _cure(archive, "get it anew, or null data.archive")
        raise BadInput(f"{file}: its checksum is {digest} instead of {expected}; {cure}")
    return file


def _download(archive: Archive, mirror: Mirror) -> Path:
    """The archive from its site or its mirror, or as the last run left it."""
    import pooch

    pooch.get_logger().setLevel("WARNING")
    url = f"{(mirror.url or archive.site).rstrip('/')}/{archive.name}"
    expected = _expected(archive)

    with _locked(archive.name) as part:
        get = partial(transfer, part=part)
        try:
            file = Path(
                pooch.retrieve(url, expected, archive.name, archive_folder(), downloader=get)
            )
        except ValueError:  # pooch's, for a checksum; what it verified is gone already
            cure = _cure(archive, CURE)
            raise BadInput(
                f"{url}: is not the file of checksum {expected}, or came in damaged; {cure}"
            ) from None

        if expected is None:
            try:
                _refuse_page(archive, file)
            except BadInput:
                file.unlink()  # or it would be found here by the next run
                raise

    return file


def _refuse_page(archive: Archive, file: Path) -> None:
    """Raises BadInput for a web page instead of an archive, whose checksum nobody knows."""
    with file.open("rb") as opened:
        start = opened.read(64).lstrip()
    if start.startswith(b"<"):  # of a moved site, say, which answers 200
        raise BadInput(f"{file}: is a web page instead of {archive.name}; {CURE}")


def checksum(file: Path, like: str) -> str:
    """The file's checksum as algorithm:hex, by the algorithm of `like`."""
    algorithm = like.split(":")[0]
    with file.open("rb") as opened:
        return f"{algorithm}:{hashlib.file_digest(opened, algorithm).hexdigest()}"


@contextmanager
def _locked(name: str) -> Iterator[Path]:
    """The name of the unfinished download, for one process at a time.

    The kernel drops the lock with the process.
    """
    path = archive_folder() / f"{name}.lock"
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(
                f"{path}: another run is downloading {name}; wait for it, or end it first"
            ) from None
        yield path.with_suffix(".part")

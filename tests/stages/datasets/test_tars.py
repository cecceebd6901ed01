"""Members are read where they lie.

An archive that is broken, or dangerous to extract, is refused with one line.
"""

import gzip
import io
import tarfile

import pytest

from stages.datasets.fetching import tars
from stages.datasets.fetching.tars import Tar, assemble
from stages.shared.errors import BadInput
from tests.support.layouts import jpeg, pack

FILES = {"a/one.txt": b"first\n\nsecond \n", "./a/two.jpg": jpeg(9)}


@pytest.fixture(autouse=True)
def archive_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path / "kept"))


def archive(tmp_path, content: bytes):
    path = tmp_path / "set.tar"
    path.write_bytes(content)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> bytes:
    """An archive with a good file, and one as asked for."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = size

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("good"))
        # the header alone: addfile would want a content of that size
        buffer.write(info.tobuf(tarfile.GNU_FORMAT))
        tar.offset += tarfile.BLOCKSIZE

    return buffer.getvalue()


@pytest.mark.parametrize("gzipped", [False, True])
def test_members_are_read_by_name_and_nothing_is_left_on_disk(tmp_path, gzipped):
    tar = Tar(archive(tmp_path, pack(FILES, gzipped)))

    assert tar.lines("a/one.txt") == ["first", "second"]
    assert tar.read("a/two.jpg") == FILES["./a/two.jpg"]
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "set.tar"]


def test_a_missing_member_is_named(tmp_path):
    tar = Tar(archive(tmp_path, pack(FILES)))
    line = r"set.tar: holds no a/three; it is not the archive that its authors"

    with pytest.raises(BadInput, match=line):
        tar.read("a/three")
    with pytest.raises(BadInput, match=line):
        tar.members(["a/one.txt", "a/three"])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (member("/etc/passwd"), "/etc/passwd has an absolute path"),
        (member("a/../../b"), r"a/\.\./\.\./b leads out of the archive"),
        (member("..", tarfile.DIRTYPE), "leads out of the archive"),
        (
            member("link", tarfile.SYMTYPE, "/etc/passwd"),
            "link links to /etc/passwd, out of the archive",
        ),
        (
            member("a/link", tarfile.SYMTYPE, "../../b"),
            r"a/link links to \.\./\.\./b, out of the archive",
        ),
        (member("hard", tarfile.LNKTYPE, "../b"), r"hard links to \.\./b, out of the archive"),
        (member("null", tarfile.CHRTYPE), "null is a device, or no plain file"),
        (member("disk", tarfile.BLKTYPE), "disk is a device, or no plain file"),
        (member("pipe", tarfile.FIFOTYPE), "pipe is a device, or no plain file"),
        (member("huge", size=1 << 40), f"huge is said to have {1 << 40} bytes"),
        (member("beyond", size=1 << 20), "is no whole archive"),
        (b"", "is no whole archive"),
        (b"no tar at all" * 100, "is no whole archive"),
        (pack(FILES)[:-20], "is no whole archive"),
        (pack(FILES)[:40] + b"\0" * 60, "is no whole archive"),
    ],
    ids=lambda value: "archive" if isinstance(value, bytes) else value,
)
def test_a_broken_or_dangerous_archive_is_refused(tmp_path, content, line):
    with pytest.raises(BadInput, match=line) as caught:
        Tar(archive(tmp_path, content))

    assert str(tmp_path / "set.tar") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_link_inside_the_archive_is_harmless(tmp_path):
    tar = Tar(archive(tmp_path, member("a/link", tarfile.SYMTYPE, "../good")))
    assert tar.read("good") == b""


def test_an_archive_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "LARGEST_ARCHIVE", 1 << 20)
    path = archive(tmp_path, gzip.compress(bytes(5 << 20)))

    with pytest.raises(BadInput, match="unpacks to more than 1048576 bytes"):
        Tar(path)


def test_a_truncated_image_names_archive_and_member(tmp_path):
    truncated = jpeg(5, size=(200, 200))[:-400]
    tar = Tar(archive(tmp_path, pack({"a/half.jpg": truncated})))
    split = tars.list_members(tar, {"a/half.jpg": 0})

    line = r"set.tar: a/half.jpg: is not a readable image \(.*truncated.*\); get the archive"
    with pytest.raises(BadInput, match=line):
        assemble(["a"], {"train": split})

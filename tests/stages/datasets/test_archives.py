"""Archives are fetched over HTTP from a site on this machine, resumed, verified and kept.

What fails says so in one line.
"""

import hashlib
import socket
from pathlib import Path

import pytest

from stages.datasets.fetching import archives, transfer
from stages.datasets.fetching.archives import Archive, Mirror
from stages.shared.errors import BadInput
from tests.support.archive_server import Site, serving

CONTENT = bytes(range(256)) * 4096  # 1 MiB
HALF = len(CONTENT) // 2
NO_MIRROR = Mirror()


def digest(content: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, content).hexdigest()}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder of archives, not made yet; there is no waiting between tries."""
    path = tmp_path / "kept"
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(path))
    monkeypatch.setattr(transfer, "PAUSE", 0.0)
    return path


@pytest.fixture
def part(folder):
    """The file that a run leaves of birds.tgz when it breaks off."""
    folder.mkdir()
    return folder / "birds.tgz.part"


@pytest.fixture
def site():
    with serving() as site:
        site.files["birds.tgz"] = CONTENT
        yield site


def fetch(wanted: list[Archive], mirror: Mirror) -> list[Path]:
    """Where the archives lie, for a reader that finds nothing wrong with them."""
    with archives.fetch(wanted, mirror) as paths:
        return paths


def birds(site: Site, checksum: str | None = digest(CONTENT)) -> Archive:
    return Archive("birds.tgz", f"{site.url}/", checksum)


def refusal(archive: Archive, mirror: Mirror = NO_MIRROR) -> str:
    """The one line that a fetch ends with."""
    with pytest.raises(BadInput) as caught:
        fetch([archive], mirror)

    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("algorithm", ["md5", "sha256"])
def test_an_archive_is_fetched_once_and_kept(site, folder, algorithm):
    archive = birds(site, digest(CONTENT, algorithm))

    assert [fetch([archive], NO_MIRROR) for _ in range(2)] == [[folder / "birds.tgz"]] * 2
    assert (folder / "birds.tgz").read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_cut_connection_is_resumed_where_it_broke(site):
    site.cuts = 2
    site.cut_at = 100_000

    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_run_goes_on_with_what_a_broken_one_left(site, part):
    part.write_bytes(CONTENT[:HALF])

    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT
    assert site.requests == [("/birds.tgz", f"bytes={HALF}-")]
    assert not part.exists()


def test_a_connection_that_never_brings_a_byte_is_given_up_and_leaves_the_part(site, part):
    site.cuts = transfer.TRIES
    site.cut_at = 0
    part.write_bytes(CONTENT[:HALF])

    line = refusal(birds(site))

    assert line.startswith(f"{site.url}/birds.tgz: the connection broke; run again")
    assert part.read_bytes() == CONTENT[:HALF]


def test_a_download_that_was_complete_but_unnamed_is_taken(site, part):
    part.write_bytes(CONTENT)
    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT


def test_a_part_longer_than_the_archive_is_thrown_away(site, part):
    part.write_bytes(CONTENT + b"more")
    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT


def test_a_site_that_cannot_resume_sends_all_of_it(site):
    site.ranges = False
    site.cuts = 1
    site.cut_at = HALF

    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT


def test_a_busy_site_is_asked_again(site):
    site.failures = 2
    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT


def test_a_redirect_is_followed(site):
    site.files["new/birds.tgz"] = site.files.pop("birds.tgz")
    site.moved["birds.tgz"] = "new/birds.tgz"
    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(site, folder):
    other = digest(b"other")
    line = refusal(birds(site, other))

    assert line.startswith(f"{site.url}/birds.tgz: is not the file of checksum {other}")
    assert "data.url" in line
    assert {path.suffix for path in folder.iterdir()} == {".lock"}


def test_a_kept_archive_that_was_damaged_is_fetched_anew(site, folder):
    fetch([birds(site)], NO_MIRROR)
    (folder / "birds.tgz").write_bytes(CONTENT[:-1])
    assert fetch([birds(site)], NO_MIRROR)[0].read_bytes() == CONTENT


def test_a_404_names_the_address_and_both_cures(site):
    line = refusal(Archive("fish.tgz", site.url, digest(CONTENT)))

    assert line.startswith(f"{site.url}/fish.tgz: the server answers 404 Not Found; ")
    assert "data.url" in line
    assert "data.archive" in line
    assert len(site.requests) == 1  # another request would get the same answer


def test_a_moved_site_is_cured_by_data_url(site):
    gone = Archive("birds.tgz", "http://127.0.0.1:9/gone/", digest(CONTENT))
    assert fetch([gone], Mirror(url=site.url))[0].read_bytes() == CONTENT


def test_an_unknown_host_says_so(monkeypatch):
    def unknown(*arguments, **options):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    line = refusal(Archive("birds.tgz", "http://nowhere.example/", digest(CONTENT)))

    assert line.startswith("http://nowhere.example/birds.tgz: the host's name is unknown here")


def test_a_host_that_does_not_answer_says_so(monkeypatch):
    monkeypatch.setattr(transfer, "TIMEOUT", 0.05)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = refusal(Archive("birds.tgz", address, digest(CONTENT)))

    assert "the host does not answer in time" in line


def test_data_archive_is_a_folder_or_the_file_itself_and_no_network_is_asked(site, tmp_path):
    (tmp_path / "birds.tgz").write_bytes(CONTENT)

    for path in (tmp_path, tmp_path / "birds.tgz"):
        assert fetch([birds(site)], Mirror(archive=str(path))) == [tmp_path / "birds.tgz"]
    assert site.requests == []


def test_data_archive_is_verified_alike(site, tmp_path):
    damaged = CONTENT[:-1]
    file = tmp_path / "birds.tgz"
    file.write_bytes(damaged)

    line = refusal(birds(site), Mirror(archive=str(tmp_path)))

    expected = f"{file}: its checksum is {digest(damaged)} instead of {digest(CONTENT)};"
    assert line.startswith(expected)
    assert file.exists()  # it is the user's


def test_data_archive_without_the_archive_names_the_parameter(site, tmp_path):
    line = refusal(birds(site), Mirror(archive=str(tmp_path)))

    assert line.startswith(
        f"params.yaml: data.archive: there is no {tmp_path}/birds.tgz; "
        f"put it there from {site.url}/"
    )


def test_one_file_does_not_stand_for_several(site, tmp_path):
    (tmp_path / "birds.tgz").write_bytes(CONTENT)

    with pytest.raises(BadInput, match=r"data.archive: .* is one file of several; name the folder"):
        fetch([birds(site), birds(site)], Mirror(archive=str(tmp_path / "birds.tgz")))


def test_an_unpublished_checksum_is_recorded_on_first_use(site, folder, caplog):
    fetch([birds(site, None)], NO_MIRROR)
    assert (folder / "birds.tgz.checksum").read_text().strip() == digest(CONTENT)
    assert f"add the line `birds.tgz,{digest(CONTENT)}`" in caplog.text


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_recorded_checksum_holds_from_then_on(site, folder, tmp_path, by_hand):
    fetch([birds(site, None)], NO_MIRROR)

    (folder / "birds.tgz").unlink()
    site.files["birds.tgz"] = b"another"
    (tmp_path / "birds.tgz").write_bytes(b"another")
    line = refusal(birds(site, None), Mirror(archive=str(tmp_path)) if by_hand else NO_MIRROR)

    assert digest(CONTENT) in line
    record = folder / "birds.tgz.checksum"
    assert line.endswith(f"; if the recorded one is wrong, remove it from {record}")


@pytest.mark.parametrize("by_hand", [False, True])
def test_an_archive_that_could_not_be_read_does_not_bar_the_good_one(
    site, folder, tmp_path, by_hand
):
    """As a truncated one: what a reader refuses leaves no checksum behind."""

    def refuse_first(mirror: Mirror) -> None:
        with archives.fetch([birds(site, None)], mirror):
            raise BadInput("birds.tgz: is no whole archive")

    mirror = Mirror(archive=str(tmp_path)) if by_hand else NO_MIRROR
    (tmp_path / "birds.tgz").write_bytes(CONTENT[:HALF])
    site.files["birds.tgz"] = CONTENT[:HALF]
    with pytest.raises(BadInput, match="is no whole archive"):
        refuse_first(mirror)
    (folder / "birds.tgz").unlink(missing_ok=True)

    (tmp_path / "birds.tgz").write_bytes(CONTENT)
    site.files["birds.tgz"] = CONTENT
    fetch([birds(site, None)], mirror)
    assert (folder / "birds.tgz.checksum").read_text().strip() == digest(CONTENT)


def test_a_committed_checksum_comes_before_the_first_use(site, tmp_path, monkeypatch):
    (tmp_path / "checksums.csv").write_text(f"name,checksum\nbirds.tgz,{digest(b'other')}\n")
    monkeypatch.setattr(archives, "CHECKSUMS", tmp_path / "checksums.csv")
    line = refusal(birds(site, None))

    assert digest(b"other") in line
    assert line.endswith(f"remove it from {tmp_path}/checksums.csv")


def test_a_web_page_is_not_recorded_for_an_archive(site, folder):
    site.files["birds.tgz"] = b"\n<!DOCTYPE html><p>We have moved"
    assert "is a web page instead of birds.tgz" in refusal(birds(site, None))
    assert {path.suffix for path in folder.iterdir()} == {".lock"}


def test_two_runs_do_not_download_the_same_archive(site):
    with archives._locked("birds.tgz"):
        assert "another run is downloading birds.tgz" in refusal(birds(site))


def test_a_folder_that_cannot_hold_archives_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path / "file"))
    (tmp_path / "file").touch()

    line = r"file: cannot hold archives \(File exists\); name a folder by DIFFMIX_ARCHIVES"
    with pytest.raises(BadInput, match=line):
        archives.archive_folder()


def test_archives_lie_in_the_repositorys_work_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("DIFFMIX_ARCHIVES")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert archives.archive_folder() == tmp_path / ".work/archives"

"""A disk that takes nothing more: one line, and what was finished before is kept."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import torch

from stages.shared.errors import BadInput
from stages.shared.running import shards as module
from stages.shared.running.checkpoint import save_checkpoint
from stages.shared.running.shards import Shards
from stages.shared.running.store import Store
from stages.shared.running.work import work_folder
from stages.shared.tables import write_shard

FULL = Path("/dev/full")  # every write to it fails as on a full disk
NOBODY = 65534

needs_full = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def add_images(monkeypatch) -> Callable[[Path, range], Shards]:
    """Adds images of these rows, of six in two shards, to a work folder; returns the shards."""
    monkeypatch.setenv("DIFFMIX_STORE", "0")
    monkeypatch.setattr(module, "SHARD_ROWS", 3)
    rows = pd.DataFrame({"key": [f"{row:08d}" for row in range(6)], "label": 0})

    def add(work: Path, numbers: range) -> Shards:
        shards = Shards(work, rows, Store("synthesize"), str)
        shards.add(numbers, [bytes(100_000)] * len(numbers))
        return shards

    return add


@needs_full
def test_a_disk_that_fills_up_in_a_shard_keeps_the_shards_before_it(add_images):
    def run_out_of_space() -> None:
        with work_folder("synthesize", "key") as work:
            (work / "shard-00001.tar.new").symlink_to(FULL)
            add_images(work, range(6))

    message = "no space left on device; fix that and run again: what is finished is kept"
    with pytest.raises(BadInput, match=message):
        run_out_of_space()

    with work_folder("synthesize", "key") as work:
        assert (work / "result/shard-00000.tar").exists()
        assert not (work / "result/shard-00001.tar").exists()

        # the images themselves are there, and the next run writes the shard
        (work / "shard-00001.tar.new").unlink()
        shards = add_images(work, range(0))
        assert not shards.lacking().any()
        assert list(shards.finish()["shard"].unique()) == ["shard-00000.tar", "shard-00001.tar"]


def write_tar(path: Path) -> None:
    write_shard(path, [("a.png", bytes(100_000))], [0])


def write_csv(path: Path) -> None:
    pd.DataFrame({"a": range(100_000)}).to_csv(path)


def write_checkpoint(path: Path) -> None:
    path.rename(path.with_suffix(".new"))
    save_checkpoint({"a": torch.zeros(100_000)}, path)


def write_in_vain(write: Callable[[Path], None]) -> None:
    with work_folder("train", "key") as work:
        (work / "out").symlink_to(FULL)
        write(work / "out")


@needs_full
@pytest.mark.parametrize("write", [write_tar, write_csv, write_checkpoint])
def test_whatever_is_written_a_full_disk_is_one_line(write):
    with pytest.raises(BadInput, match="no space left on device") as error:
        write_in_vain(write)

    assert len(str(error.value).splitlines()) == 1


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """The folder is read-only; root, who may write everywhere, is somebody else meanwhile."""
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)

    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_may_not_be_written_to_is_one_line(root):
    refused = pytest.raises(BadInput, match="permission denied; fix that and run again")

    with refused, without_rights(root), work_folder("train", "key"):
        pass


def test_other_errors_keep_their_traceback():
    with pytest.raises(FileNotFoundError), work_folder("train", "key") as work:
        (work / "nowhere").read_text()

"""Shards are written when they are whole, by whoever made their last image, and once."""

import fcntl
import os

import pandas as pd
import pytest

from stages.shared.running import shards as module
from stages.shared.running.shards import Shards
from stages.shared.running.store import Store
from stages.shared.tables import Table

IMAGES = [f"\x89P{row}".encode("latin-1") for row in range(5)]


@pytest.fixture
def open_shards(tmp_path, monkeypatch):
    """Opens five rows in shards of two, in one work folder, with or without a store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(module, "SHARD_ROWS", 2)

    def open_rows(gib: int = 0, names: str = "abcde") -> Shards:
        monkeypatch.setenv("DIFFMIX_STORE", str(gib))
        rows = pd.DataFrame({"key": [f"{row:08d}" for row in range(5)], "label": 0})
        return Shards(tmp_path, rows, Store("synthesize"), lambda row: names[row])

    return open_rows


def written(shards: Shards) -> list[str]:
    return sorted(path.name for path in (shards.work / "result").glob("*"))


def test_a_shard_is_written_with_its_last_image_and_its_files_go(open_shards, tmp_path):
    shards = open_shards()
    shards.add([0, 2, 4], [IMAGES[0], IMAGES[2], IMAGES[4]])
    assert written(shards) == ["shard-00002.tar"]

    shards.add([3, 1], [IMAGES[3], IMAGES[1]])
    table = Table(tmp_path / "result", shards.finish())

    assert [table.read(row) for row in range(5)] == IMAGES
    assert list((tmp_path / "images").iterdir()) == []


def test_what_was_made_is_not_lacking_after_an_interruption(open_shards):
    open_shards().add([0, 1, 3], [IMAGES[0], IMAGES[1], IMAGES[3]])
    assert open_shards().lacking().tolist() == [False, False, True, False, True]


def test_an_empty_image_is_made_again(open_shards, tmp_path):
    """As a loss of power leaves it."""
    open_shards().add([0, 2, 4], [IMAGES[0], IMAGES[2], IMAGES[4]])
    (tmp_path / "images/shard-00000.tar/00000000.png").write_bytes(b"")

    shards = open_shards()
    shards.wanted = shards.lacking()
    assert shards.wanted.tolist() == [True, True, False, True, False]

    shards.add([1], [IMAGES[1]])
    assert written(shards) == ["shard-00002.tar"]

    shards.add([0, 3], [IMAGES[0], IMAGES[3]])
    assert Table(tmp_path / "result", shards.finish()).read(0) == IMAGES[0]


def test_a_shard_is_on_the_disk_before_it_has_its_name(open_shards, tmp_path, monkeypatch):
    """Else a loss of power may leave the name without the content."""
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(written(open_shards())))
    open_shards().add([0, 1], IMAGES[:2])

    assert synced == [[], ["shard-00000.tar"]]  # the tar, then its part of the manifest


def test_a_shard_without_its_part_of_the_manifest_is_made_again(open_shards, tmp_path):
    """As a kill between the two leaves it."""
    shards = open_shards()
    shards.add(range(5), IMAGES)
    (tmp_path / "shard-00001.tar.csv").unlink()

    assert open_shards().lacking().tolist() == [False, False, True, True, False]


def test_an_image_of_a_shard_that_is_written_is_not_kept_again(open_shards, tmp_path):
    shards = open_shards()
    shards.add(range(5), IMAGES)
    shards.wanted = shards.lacking()
    shards.add([0, 1], [b"\x89Pother", b"\x89Pother"])

    assert Table(tmp_path / "result", shards.finish()).read(0) == IMAGES[0]


def test_a_shard_that_another_process_writes_is_left_to_it(open_shards, tmp_path):
    shards = open_shards()
    with (tmp_path / "shard-00000.tar.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shards.add([0, 1], IMAGES[:2])
        assert written(shards) == []

    shards.add([2, 3, 4], IMAGES[2:])
    assert len(shards.finish()) == 5


def test_images_go_to_the_store_and_come_from_it(open_shards, tmp_path):
    shards = open_shards(1)
    shards.add(range(5), IMAGES)
    first = shards.finish()
    for path in [*(tmp_path / "result").iterdir(), *tmp_path.glob("*.csv")]:
        path.unlink()

    again = open_shards(1, names="abxde")
    assert again.take_stored() == 4
    assert again.lacking().tolist() == [False, False, True, False, False]

    again.add([2], [IMAGES[2]])
    assert again.finish().equals(first)
    assert Table(tmp_path / "result", first).read(4) == IMAGES[4]

"""The store of finished images keeps its limit, and gives what it was given."""

import os

import pytest

from stages.shared.running import store as module
from stages.shared.running.store import Store, name_of


@pytest.fixture
def store(tmp_path, monkeypatch) -> Store:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setattr(module, "store_bytes", lambda: 250)
    return Store("synthesize")


def put(store: Store, name: str, size: int, used: float) -> None:
    """A file of so many bytes, last used then."""
    path = store.folder.parent / "new"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    store.take(path, name)
    os.utime(store.folder / name[:2] / name, (used, used))


def held(store: Store) -> list[str]:
    return sorted(path.name for path in store.folder.glob("*/*"))


def test_a_file_is_given_as_it_was_taken(store, tmp_path):
    put(store, "abc", 100, 1)
    assert store.give("abc", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 100
    assert not store.give("abd", tmp_path / "other")


def test_without_hard_links_it_is_copied(store, tmp_path, monkeypatch):
    put(store, "abc", 100, 1)

    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    assert store.give("abc", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"x" * 100


def test_what_was_used_longest_ago_goes_first(store, tmp_path):
    for used, name in enumerate(["aa1", "bb2", "cc3"]):
        store.taken = 0  # by another run
        put(store, name, 100, used)
    store.give("aa1", tmp_path / "copy")
    store.trim()

    assert held(store) == ["aa1", "cc3"]
    assert str(store).startswith(f"store of finished images: 2 in {store.folder}, 0.0 of at most 0")


def test_names_differ_where_anything_does():
    assert name_of("a", "bc", 0.5) == name_of("a", "bc", 0.5)
    assert len({name_of("a", "bc"), name_of("ab", "c"), name_of("a", "b", "c")}) == 3


def test_a_copy_that_is_broken_off_is_no_file(store, tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError

    def break_off(_, target):
        target.write_bytes(b"x")
        raise KeyboardInterrupt

    put(store, "abc", 100, 1)
    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(module.shutil, "copyfile", break_off)
    with pytest.raises(KeyboardInterrupt):
        store.give("abc", tmp_path / "copy.png")

    assert not (tmp_path / "copy.png").exists()


def test_an_empty_file_is_not_given(store, tmp_path):
    put(store, "abc", 0, 1)
    assert not store.give("abc", tmp_path / "copy")


def test_a_run_takes_no_more_than_the_limit(store):
    put(store, "aa1", 100, 1)
    put(store, "bb2", 100, 2)

    (store.folder.parent / "new").write_bytes(b"x" * 100)
    store.take(store.folder.parent / "new", "cc3")
    assert held(store) == ["aa1", "bb2"]

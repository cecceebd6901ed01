"""How much memory is free: the least of what the machine and each control group have left."""

from types import SimpleNamespace

import pytest

from stages.shared.running import memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A job's group, of 100 bytes, in a group without a limit; the machine has 1,000."""
    for folder, limit in ((tmp_path, "max"), (tmp_path / "job", "100")):
        folder.mkdir(exist_ok=True)
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("60\n")
        (folder / "memory.stat").write_text("anon 20\ninactive_file 30\n")

    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    machine = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=1000))
    monkeypatch.setattr(memory, "psutil", machine)
    return tmp_path


def listed(monkeypatch, tmp_path, text: str) -> None:
    listing = tmp_path / "cgroup"
    listing.write_text(text)
    monkeypatch.setattr(memory, "LISTING", listing)


def test_a_jobs_limit_counts_less_what_is_in_use_and_no_cache(groups, tmp_path, monkeypatch):
    listed(monkeypatch, tmp_path, "0::/job/step\n")
    assert memory.free_memory() == 100 - (60 - 30)


def test_processes_of_one_machine_share_it(groups, tmp_path, monkeypatch):
    listed(monkeypatch, tmp_path, "0::/job\n")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "7")
    assert memory.free_memory() == 10


def test_without_a_limit_it_is_the_machines(groups, tmp_path, monkeypatch):
    listed(monkeypatch, tmp_path, "0::/\n12:cpu:/job\n")
    assert memory.free_memory() == 1000

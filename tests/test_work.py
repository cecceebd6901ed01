"""Work folders: one run at a time, and never another result's shards."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.shared.params import Section
from stages.shared.work import fingerprint, publish, work_folder


class Params(Section):
    strength: float


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    return tmp_path


def test_the_fingerprint_covers_parameters_and_inputs(tmp_path):
    (tmp_path / "plan.csv").write_text("a")
    first = fingerprint(Params(strength=0.5), [tmp_path / "plan.csv"])
    assert first == fingerprint(Params(strength=0.5), [tmp_path / "plan.csv"])
    assert first != fingerprint(Params(strength=0.7), [tmp_path / "plan.csv"])
    (tmp_path / "plan.csv").write_text("b")
    assert first != fingerprint(Params(strength=0.5), [tmp_path / "plan.csv"])


def interrupted(mark: str) -> Path:
    """Leave a shard behind and break off."""
    try:
        with work_folder("synthesize", mark) as folder:
            (folder / "shard").write_text("x")
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        return folder


def test_interrupted_work_is_found_again_under_the_same_mark():
    interrupted("one")
    with work_folder("synthesize", "one") as folder:
        assert (folder / "shard").exists()


def test_interrupted_work_is_cleared_under_another_mark():
    old = interrupted("one")
    with work_folder("synthesize", "two") as folder:
        assert not (folder / "shard").exists()
    assert not old.exists()


def test_finished_work_is_cleared():
    with work_folder("synthesize", "one") as folder:
        (folder / "shard").write_text("x")
    assert not folder.exists()


def test_a_second_run_is_refused_with_one_line(root):
    code = "from stages.shared.work import work_folder\nwith work_folder('train', 'x'): pass"
    with work_folder("train", "x"):
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert second.returncode == 1
    assert (
        second.stderr.strip().splitlines()[-1].endswith("another run of train is at work; wait for it, or end it first")
    )


def test_publishing_replaces_the_old_output(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").touch()
    with work_folder("plan", "x") as folder:
        (folder / "new").touch()
        publish(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]

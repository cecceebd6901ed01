"""Work folders: one run at a time, and never another result's shards."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from subprocess import DEVNULL, PIPE

import pytest

from stages.shared.params import Section
from stages.shared.running import work
from stages.shared.running.work import publish, work_folder, work_key
from tests.support.closure import ROOT


class Params(Section):
    strength: float


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_key_covers_parameters_and_inputs(tmp_path):
    plan = tmp_path / "plan.csv"
    plan.write_text("a")
    first = work_key(Params(strength=0.5), [plan])
    assert first == work_key(Params(strength=0.5), [plan])
    assert first != work_key(Params(strength=0.7), [plan])

    plan.write_text("b")
    assert first != work_key(Params(strength=0.5), [plan])


@pytest.mark.parametrize("library", ["torch", "pillow", "numpy"])
def test_the_key_covers_the_libraries_that_bytes_and_orders_depend_on(monkeypatch, library):
    first = work_key(Params(strength=0.5), [])
    monkeypatch.setattr(work, "version", lambda name: "other" if name == library else version(name))
    assert work_key(Params(strength=0.5), []) != first


def interrupted(key: str, stage: str = "synthesize") -> Path:
    """The folder of work that has left a shard behind and was broken off."""
    try:
        with work_folder(stage, key) as folder:
            (folder / "shard").write_text("x")
            raise KeyboardInterrupt
    except SystemExit:
        return folder


def test_an_interruption_is_one_line(capsys):
    with pytest.raises(SystemExit, match="130"), work_folder("synthesize", "one"):
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "synthesize: interrupted; run again to go on\n"


def test_interrupted_work_is_found_again_under_the_same_key():
    interrupted("one")

    with work_folder("synthesize", "one") as folder:
        assert (folder / "shard").exists()


def test_interrupted_work_is_not_seen_under_another_key_and_not_lost():
    old = interrupted("one")

    with work_folder("synthesize", "two") as folder:
        assert not (folder / "shard").exists()

    assert (old / "shard").exists()


def test_work_that_nobody_went_on_with_for_a_week_is_cleared():
    old = interrupted("one")
    for path in (old / "shard", old):
        os.utime(path, (0, 0))

    with work_folder("synthesize", "two"):
        assert not old.exists()


def test_old_work_of_an_arm_that_is_no_more_is_cleared_by_another_arm(root):
    old = interrupted("one", "train/removed")
    young = interrupted("two", "train/removed")
    foreign = interrupted("one", "finetune")
    for path in (old / "shard", old, foreign / "shard", foreign):
        os.utime(path, (0, 0))

    with work_folder("train/diffmix", "one"):
        assert not old.exists()
        assert young.exists()
        assert foreign.exists()


def test_old_work_of_another_arm_that_is_gone_on_with_elsewhere_stays(root):
    with held(root, root, "one", "train/other"):
        os.utime(root / ".work/train/other/one", (0, 0))

        with work_folder("train/diffmix", "one"):
            assert (root / ".work/train/other/one").exists()


def test_old_work_that_is_gone_on_with_elsewhere_stays(root):
    with held(root, root, "one"):
        os.utime(root / ".work/train/one", (0, 0))

        with work_folder("train", "two"):
            assert (root / ".work/train/one").exists()


def test_finished_work_is_cleared():
    with work_folder("synthesize", "one") as folder:
        (folder / "shard").write_text("x")

    assert not folder.exists()


CODE = """
import sys
from stages.shared.running.work import work_folder
with work_folder(sys.argv[2], sys.argv[1]):
    print('at work', flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(workspace: Path, root: Path, key: str, stage: str = "train") -> Iterator[None]:
    """Another process at work in a workspace of its own, below `workspace`."""
    elsewhere = workspace / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    environment = os.environ | {"DVC_ROOT": str(root), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, key, stage]

    with subprocess.Popen(
        command, cwd=elsewhere, env=environment, stdin=PIPE, stdout=PIPE
    ) as process:
        assert process.stdout.readline() == b"at work\n"
        yield
        process.stdin.close()


def second_run(folder: Path, key: str) -> str:
    """What another process that wants to work in `folder` says to stderr."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CODE, key, "train"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, stdin=DEVNULL
    )

    assert done.returncode == bool(done.stderr)
    return done.stderr.strip()


REFUSED = "another run of train is at work; wait for it, or end it first"


def test_a_second_run_in_the_workspace_is_refused_with_one_line_even_of_other_work(root):
    with work_folder("train", "x"):
        for key in ("x", "y"):
            assert second_run(root, key).endswith(REFUSED)
            assert len(second_run(root, key).splitlines()) == 1


def test_two_workspaces_may_do_different_work_and_not_the_same(root):
    with held(root, root, "one"), work_folder("train", "two"):
        pass

    refused = pytest.raises(SystemExit, match=REFUSED)
    with held(root, root, "one"), refused, work_folder("train", "one"):
        pass


def test_publishing_replaces_the_old_output(tmp_path):
    output = tmp_path / "out"
    output.mkdir()
    (output / "old").touch()

    with work_folder("plan", "x") as folder:
        (folder / "new").touch()
        publish(folder, output)

    assert [path.name for path in output.iterdir()] == ["new"]

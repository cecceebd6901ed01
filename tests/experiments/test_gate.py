"""The gate in clones, without data or cache, of a small repository that DVC has really run."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.gate import disjointed, inspect
from stages.shared.errors import BadInput
from tests.support.toy_repository import build, call, clone, commit, python


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("toy"))


@pytest.fixture
def fresh(source, tmp_path, monkeypatch) -> Path:
    """A clone of it, which is the working directory."""
    folder = clone(source, tmp_path / "clone")
    monkeypatch.chdir(folder)
    return folder


def edit(path: str, old: str, new: str) -> Callable[[], None]:
    """A change of a file, to be called in a clone."""

    def replace() -> None:
        text = Path(path).read_text()
        assert old in text
        Path(path).write_text(text.replace(old, new))

    return replace


# What is done to a clone, and what the gate then says, up to the cure.
STALE = {
    "parameter": (
        edit("params.yaml", "factor: 2", "factor: 4"),
        {"dvc.lock: measure@double was run before a change of arms.double.factor (params.yaml)"},
    ),
    "parameter of a stage with nothing before it": (
        edit("params.yaml", "300", "200"),
        {"dvc.lock: make was run before a change of size (params.yaml)"},
    ),
    "code": (
        edit("measure.py", "mean / 2", "mean / 3"),
        {
            f"dvc.lock: measure@{arm} was run before a change of measure.py"
            for arm in ("plain", "double")
        },
    ),
    "code that is gone": (
        Path("make.py").unlink,
        {"dvc.lock: make was run before a change of make.py"},
    ),
    "command": (
        edit("dvc.yaml", "python make.py", "python ./make.py"),
        {"dvc.lock: make was run before a change of dvc.yaml (command)"},
    ),
    "output": (
        edit("dvc.yaml", "outs: [data/make]", "outs: [data/make, data/more]"),
        {"dvc.lock: make was run before it had the output data/more"},
    ),
    "metric edited by hand": (
        edit("metrics/plain.json", '"top1": ', '"top1": 1'),
        {"metrics/plain.json: is not what dvc.lock has"},
    ),
    "file of a folder of plots edited by hand": (
        edit("metrics/plots/plain/curve.csv", "0,", "0,1"),
        {"metrics/plots/plain: is not what dvc.lock has"},
    ),
    "file in a folder of plots": (
        lambda: Path("metrics/plots/plain/old.csv").touch(),
        {
            "metrics/plots/plain/old.csv: is not in git",
            "metrics/plots/plain: is not what dvc.lock has",
        },
    ),
    "metric that is gone": (
        Path("metrics/plain.json").unlink,
        {"metrics/plain.json: is not in git"},
    ),
    "metric that git ignores": (
        edit(".gitignore", "/data/", "/data/\n/metrics/p*.json"),
        {"metrics/plain.json: is ignored by git"},
    ),
    "stage removed": (
        edit("params.yaml", ", double: {factor: 2}", ""),
        {"dvc.lock: measure@double is no stage of dvc.yaml"},
    ),
    "stage added": (
        edit(
            "dvc.yaml",
            "stages:",
            "stages:\n  new: {cmd: cp make.py data/new, deps: [make.py], outs: [data/new]}",
        ),
        {"dvc.lock: new is in dvc.yaml, but has not been run"},
    ),
    "arm added": (
        edit("params.yaml", "double", "triple: {factor: 3}, double"),
        {
            "dvc.lock: measure@triple is in dvc.yaml, but has not been run",
            "metrics/plots/triple: is not in git",
            "metrics/triple.json: is not in git",
        },
    ),
}


def findings() -> list[str]:
    """What the gate finds in the working directory, up to the cures; every finding has one."""
    lines = [line.partition("; ") for line in inspect()]
    assert all(cure for _, _, cure in lines)
    return [what for what, _, _ in lines]


def test_a_clone_without_data_passes(fresh):
    assert not (fresh / "data").exists()
    assert list(inspect()) == []


@pytest.mark.parametrize("change", STALE)
def test_what_does_not_belong_together_is_found(change, fresh):
    act, expected = STALE[change]
    act()

    found = findings()
    assert (set(found), len(found)) == (expected, len(expected))


@pytest.mark.parametrize(
    ("paths", "rule", "line"),
    [
        (["metrics/plain.json"], "", "metrics/plain.json: is not in git"),
        (["metrics/plain.json"], "*.json\n", "metrics/plain.json: is ignored by git"),
        (["metrics/plots/plain"], "", "metrics/plots/plain: is not in git"),
        (
            ["metrics/plots/plain"],
            "/metrics/plots/plain/\n",
            "metrics/plots/plain: is ignored by git",
        ),
    ],
    ids=["metric", "ignored metric", "folder", "ignored folder"],
)
def test_results_left_out_of_a_commit_are_found_in_its_clone(
    paths, rule, line, source, tmp_path, monkeypatch
):
    folder = clone(source, tmp_path / "work")
    call(folder, "git", "rm", "-rq", "--cached", *paths)

    rules = folder / ".gitignore"
    rules.write_text(rules.read_text() + rule)
    call(folder, "git", "add", ".gitignore")
    call(folder, "git", "commit", "-qm", "without")

    monkeypatch.chdir(clone(folder, tmp_path / "clone"))
    assert line in findings()


def test_a_lock_that_was_committed_without_its_metrics_is_found(source, tmp_path, monkeypatch):
    folder = clone(source, tmp_path / "work")
    edit(str(folder / "params.yaml"), "factor: 2", "factor: 4")()
    python(folder, "dvc", "repro", "-q")
    call(folder, "git", "commit", "-qm", "half", "params.yaml", "dvc.lock")

    monkeypatch.chdir(clone(folder, tmp_path / "clone"))
    assert findings() == [
        "metrics/double.json: is not what dvc.lock has",
        "metrics/plots/double: is not what dvc.lock has",
    ]

    monkeypatch.chdir(folder)
    commit(folder)
    assert list(inspect()) == []


def test_a_workspace_with_its_data_passes_whatever_happened_to_the_data(
    source, tmp_path, monkeypatch
):
    folder = tmp_path / "work"
    shutil.copytree(source, folder, symlinks=True)

    numbers = folder / "data/make/numbers.bin"
    numbers.chmod(0o644)
    numbers.write_bytes(b"other")

    monkeypatch.chdir(folder)
    assert list(inspect()) == []


def test_photos_are_data_and_need_not_be_there(fresh):
    (fresh / "photos/a.jpg").write_bytes(b"another photo")
    assert list(inspect()) == []


@pytest.fixture(scope="module")
def photos(source, tmp_path_factory) -> Path:
    """A clone whose photos DVC keeps."""
    folder = clone(source, tmp_path_factory.mktemp("photos") / "work")
    call(folder, "git", "rm", "-rq", "--cached", "photos")
    (folder / "photos/a.jpg").write_bytes(b"a photo")
    python(folder, "dvc", "add", "-q", "photos")
    python(folder, "dvc", "repro", "-q")
    commit(folder)
    return folder


def test_a_clone_without_the_photos_that_dvc_keeps_passes(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(clone(photos, tmp_path / "clone"))
    assert not Path("photos").exists()
    assert list(inspect()) == []


def test_photos_that_were_added_after_the_run_are_found(photos, tmp_path, monkeypatch):
    folder = clone(photos, tmp_path / "work")
    (folder / "photos").mkdir()
    (folder / "photos/b.jpg").write_bytes(b"another")
    python(folder, "dvc", "add", "-q", "photos")

    monkeypatch.chdir(folder)
    assert findings() == ["dvc.lock: make was run with another photos than the one locked"]


def test_a_merge_of_two_runs_is_found():
    locked = {
        "make": {"outs": [{"path": "data/make", "md5": "1"}]},
        "read": {"deps": [{"path": "data/make", "md5": "2"}, {"path": "read.py", "md5": "3"}]},
        "agree": {"deps": [{"path": "data/make", "md5": "1"}]},
    }
    assert [line.partition(";")[0] for line in disjointed(locked, {})] == [
        "dvc.lock: read was run with another data/make than the one locked"
    ]


def test_no_lock_at_all_is_one_line(fresh):
    Path("dvc.lock").unlink()
    with pytest.raises(BadInput, match=r"dvc\.lock: is not there; `dvc repro`"):
        list(inspect())


def test_the_command_says_one_line_and_exits_with_0(fresh):
    printed = python(fresh, "experiments.gate")
    assert printed == "dvc.lock and metrics belong to this code and these parameters\n"


def test_the_command_says_one_line_for_each_finding_and_exits_with_1(fresh):
    edit("measure.py", "mean / 2", "mean / 3")()
    printed = python(fresh, "experiments.gate", status=1)
    stages = re.findall(r"^dvc\.lock: (\S+) was run before", printed, re.MULTILINE)
    assert stages == ["measure@plain", "measure@double"]
    assert len(printed.splitlines()) == 2


def test_a_merge_conflict_in_the_lock_is_one_line(fresh):
    edit("dvc.lock", "stages:", "<<<<<<< HEAD\nstages:")()
    printed = python(fresh, "experiments.gate", status=1)
    assert printed.startswith("dvc.yaml, dvc.lock: cannot be read (")
    assert len(printed.splitlines()) == 1

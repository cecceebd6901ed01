"""A workspace's files must be the commit's, and must not change while experiments are queued."""

import subprocess
from pathlib import Path

import pytest

from experiments.running.workspace import Workspace
from stages.shared.errors import BadInput
from tests.support.small_project import GIT

FILES = ("code.py", "params.yaml", "dvc.yaml", "README.md", "made/table", "base/one", "base/two")
STAGES = {
    "make": {"cmd": "make", "deps": ["code.py", "base"], "outs": ["made"]},
    "show": {"cmd": "s", "deps": ["made"]},
}


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Workspace:
    """A repository in which all files are committed."""
    monkeypatch.chdir(tmp_path)
    for name, value in GIT.items():
        monkeypatch.setenv(name, value)

    for name in FILES:
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("1\n")

    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
        subprocess.run(["git", *words], check=True)

    return Workspace(STAGES)


def test_a_workspace_as_committed_is_clean_and_the_same(workspace):
    workspace.check_clean()
    workspace.check_same()


def test_a_path_that_dvc_cannot_experiment_in_is_named_first(workspace, tmp_path, monkeypatch):
    workspace.check_place()
    odd = tmp_path / "prøj"
    odd.mkdir()
    monkeypatch.chdir(odd)

    with pytest.raises(BadInput, match=f"^{odd}: DVC's experiments fail in a folder whose path"):
        workspace.check_place()


@pytest.mark.parametrize("path", ["README.md", "made/table", "new.py"])
def test_a_change_that_no_result_depends_on_does_no_harm(workspace, path):
    Path(path).write_text("2\n")
    workspace.check_clean()
    workspace.check_same()


@pytest.mark.parametrize("path", ["code.py", "params.yaml", "dvc.yaml", "base/one", "base/näw one"])
@pytest.mark.parametrize("staged", [False, True])
def test_a_change_that_results_depend_on_is_refused(workspace, path, staged):
    Path(path).write_text("2\n")
    if staged:
        subprocess.run(["git", "add", "-A"], check=True)

    with pytest.raises(BadInput, match=f"{path}: differs from the last commit; commit"):
        workspace.check_clean()


def test_a_file_that_is_gone_is_refused(workspace):
    Path("base/two").unlink()

    with pytest.raises(BadInput, match="base/two: differs from the last commit"):
        workspace.check_clean()

    with pytest.raises(BadInput, match="base/two: has changed since this call began"):
        workspace.check_same()


def test_a_commit_since_the_call_began_is_a_change_too(workspace):
    Path("code.py").write_text("2, and longer\n")
    subprocess.run(["git", "commit", "-qam", "later"], check=True)
    workspace.check_clean()

    with pytest.raises(BadInput, match=r"code\.py: has changed since this call began"):
        workspace.check_same()

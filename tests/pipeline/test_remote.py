"""docs/teams.md: what one has computed and pushed, a colleague has without computing it.

The commands are the page's own, with this test's names in place of the page's.
"""

import json
import re
import shlex
import sys
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

import pytest
from dvc.repo import Repo

from experiments import push
from experiments.run import run_table
from experiments.tables import recipes
from stages.shared.errors import BadInput
from tests.support.closure import ROOT
from tests.support.experiments_project import build
from tests.support.small_project import ran, run

PAGE = (ROOT / "docs/teams.md").read_text()
BLOCKS = "".join(re.findall(r"^```console\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
COMMANDS = {line.partition("  #")[0].strip() for line in re.findall(r"^\$ (.+)", BLOCKS, re.M)}
STORAGES = re.findall(
    r"`dvc remote add --default team (\S+)` \| `pip install 'dvc\[(\w+)\]'`", PAGE
)
# the environment's, in which the tests run already; and those that queue experiments, for minutes
UNTYPED = {
    "cd diffmix", "make env", "source .venv/bin/activate",
    "python -m experiments.run table6 '5-shot *'", "make table6",
}  # fmt: skip
METRICS = "metrics/evaluate.json"
UP_TO_DATE = "Data and pipelines are up to date."


class Team(NamedTuple):
    """Two clones of a git repository, and DVC's remote."""

    mine: Path
    theirs: Path
    hub: Path
    remote: Path

    def type(self, folder: Path, line: str, status: int = 0) -> str:
        """Run a command of the page in a clone; returns what it prints."""
        assert line in COMMANDS

        if line == "make push":
            return run(folder, *recipe("push"))
        places = {"/mnt/team/diffmix": self.remote, "git@host:team/diffmix.git": self.hub}
        words = [str(places.get(word, word)) for word in shlex.split(line)]
        return run(folder, *words, status=status)


def recipe(target: str) -> list[str]:
    """What make calls, by this test's interpreter: the small project has no Makefile."""
    last = run(ROOT, "make", "--no-print-directory", "--dry-run", target).splitlines()[-1]
    return shlex.split(last.replace(".venv/bin/python", sys.executable))


def measured(folder: Path) -> float:
    """The top-1 of the arm that gamma changes: 100 gamma."""
    return json.loads((folder / METRICS).read_text())["arms"]["diffmix"]["top1"]


def reset(folder: Path) -> None:
    """Go back to the commit, but for the data: the next command of DVC sees to them."""
    run(folder, "git", "checkout", "-q", ".")


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Team:
    """A run in git's and in DVC's remote, and a colleague's clone without data."""
    root = tmp_path_factory.mktemp("team")
    team = Team(root / "mine", root / "diffmix", root / "hub.git", root / "remote")

    build(team.mine)
    (team.mine / "photos").mkdir()
    (team.mine / "photos/a.jpg").write_bytes(b"a photo")
    team.type(team.mine, "dvc add photos")
    team.type(team.mine, "git add photos.dvc .gitignore")
    run(team.mine, "dvc", "repro")
    run(team.mine, "git", "add", "-A")
    run(team.mine, "git", "commit", "-qm", "results")
    run(root, "git", "init", "-q", "--bare", str(team.hub))
    run(team.mine, "git", "remote", "add", "origin", str(team.hub))
    run(team.mine, "git", "push", "-qu", "origin", "HEAD")

    team.type(team.mine, "dvc remote add --default team /mnt/team/diffmix")
    team.type(team.mine, "git add .dvc/config")
    team.type(team.mine, 'git commit -m "The team\'s remote"')
    team.type(team.mine, "git push")
    team.type(team.mine, "make push")
    team.type(root, "git clone git@host:team/diffmix.git diffmix")

    return team


@pytest.fixture(scope="module")
def in_git(published) -> set[str]:
    """The files of the clone before it has pulled."""
    paths = (path.relative_to(published.theirs) for path in published.theirs.rglob("*"))
    return {path.as_posix() for path in paths}


@pytest.fixture(scope="module")
def team(published, in_git) -> Team:
    """The colleague has pulled."""
    published.type(published.theirs, "dvc pull")
    return published


@pytest.fixture(scope="module")
def shared(team) -> Team:
    """I have run an experiment and pushed it, and am back at the commit."""
    team.type(team.mine, "dvc exp run --name softer -S synth.gamma=0.75")
    team.type(team.mine, "make push")
    team.type(team.mine, "dvc exp push origin softer")
    reset(team.mine)

    return team


def test_git_has_the_metrics_and_no_data(in_git):
    assert {"dvc.lock", METRICS, "metrics/train/diffmix.json"} <= in_git
    assert not any(path.startswith(("data/", "photos/")) for path in in_git)


def test_photos_that_dvc_keeps_come_with_a_pull(team):
    assert (team.theirs / "photos/a.jpg").read_bytes() == b"a photo"


def test_after_a_pull_all_is_up_to_date_and_nothing_runs(team):
    assert team.type(team.theirs, "dvc status").strip() == UP_TO_DATE

    output = team.type(team.theirs, "dvc repro")
    assert ran(output) == set()
    assert UP_TO_DATE in output


def test_what_one_has_run_the_other_does_not_compute_again(shared):
    output = shared.type(shared.theirs, "dvc exp run --pull -S synth.gamma=0.75")
    assert ran(output) == set()
    assert set(re.findall(r"Stage '(\S+)' is cached", output)) == {"train@diffmix", "evaluate"}
    assert measured(shared.theirs) == 75

    reset(shared.theirs)


def test_a_colleague_lists_pulls_shows_and_applies_an_experiment(shared):
    assert "softer" in shared.type(shared.theirs, "dvc exp list origin")
    shared.type(shared.theirs, "dvc exp pull origin softer")
    assert "[softer]" in shared.type(shared.theirs, "dvc exp show")

    shared.type(shared.theirs, "dvc exp apply softer")
    assert measured(shared.theirs) == 75
    assert run(shared.theirs, "dvc", "status").strip() == UP_TO_DATE

    reset(shared.theirs)


def test_a_row_of_a_table_that_one_has_run_counts_as_run_for_the_other(shared, monkeypatch, capsys):
    monkeypatch.chdir(shared.theirs)
    monkeypatch.setattr(recipes, "FOLDER", Path("experiments/tables"))
    run_table("one", ["more"], "toybirds", dry=True)
    name = re.search(r"0 are there, 1 to run\n  (one-more-\w{8})\n", capsys.readouterr().out)
    assert name

    # in place of a queue's half a minute: "softer" has the row's parameters, but not its name
    run(shared.mine, "dvc", "exp", "rename", "softer", name[1])
    shared.type(shared.mine, "dvc exp push origin --all-commits")
    shared.type(shared.theirs, "dvc exp pull origin --all-commits")

    run_table("one", ["more"], "toybirds", dry=True)
    assert "1 are there, 0 to run" in capsys.readouterr().out


def change(folder: Path, old: str, new: str) -> None:
    """A changed parameter, run and committed."""
    params = folder / "params.yaml"
    assert old in params.read_text()
    params.write_text(params.read_text().replace(old, new))

    run(folder, "dvc", "repro")
    run(folder, "git", "commit", "-qam", new)


def test_two_branches_that_have_run_something_are_merged_with_what_each_has_run(team):
    """One has another mixing of an arm, the other another gamma, four lines above."""
    run(team.mine, "git", "checkout", "-qb", "other")
    change(team.mine, "cutmix: {mix: cutmix}", "cutmix: {mix: cutmix }, mixup: {mix: mixup}")
    run(team.mine, "git", "push", "-qu", "origin", "other")
    team.type(team.mine, "make push")

    change(team.theirs, "gamma: 0.5", "gamma: 0.25")
    run(team.theirs, "git", "fetch", "-q")
    assert "dvc.lock" in team.type(team.theirs, "git merge origin/other", status=1)

    team.type(team.theirs, "git checkout --ours dvc.lock metrics")
    output = team.type(team.theirs, "dvc repro --pull")
    assert "Stage 'train_real@mixup' is cached" in output
    assert ran(output) == {"evaluate"}

    team.type(team.theirs, "git add dvc.lock metrics")
    team.type(team.theirs, 'git commit -m "Both changes, and their results"')
    assert {"mixup", "diffmix"} < set(json.loads((team.theirs / METRICS).read_text())["arms"])
    assert measured(team.theirs) == 25


def test_these_tests_type_every_command_of_the_page():
    source = Path(__file__).read_text().replace("\\'", "'")
    assert {line for line in COMMANDS - UNTYPED if source.count(line) == 0} == set()
    assert COMMANDS >= UNTYPED


def test_dvc_knows_the_storages_of_the_page(tmp_path):
    assert [extra for _, extra in STORAGES] == ["s3", "gs", "ssh"]
    assert {extra for _, extra in STORAGES} <= set(metadata("dvc").get_all("Provides-Extra", []))

    config = Repo.init(str(tmp_path), no_scm=True).config
    for address, _ in STORAGES:
        with config.edit() as settings:  # which validates, as `dvc remote add` does
            settings["remote"]["team"] = {"url": address}


def test_secrets_stay_out_of_git(published):
    run(published.theirs, "git", "check-ignore", ".dvc/config.local")


def test_without_a_remote_one_line_says_how_to_add_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True)
    with pytest.raises(BadInput, match=r"names no remote; `dvc remote add --default team FOLDER`"):
        push.main()

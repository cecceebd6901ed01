"""`python -m experiments.run` in a small project of its own: DVC's queue, interruption, a fresh clone, the claims."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.closure import ROOT
from tests.test_pipeline import GIT

ENVIRONMENT = os.environ | GIT | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
FILES = {
    ".gitignore": "/data/*\n__pycache__/\n",
    "presets/toybirds.yaml": """
seed: 0
synth: {gamma: 0.5}
train: {trials: 2, pause: 0, finish: true}
arms: {real: {baseline: {mix: none}, cutmix: {mix: cutmix}}, synthetic: {diffmix: {p: 0.5}}}
evaluate: {many: 3, few: 2, bootstrap: 200}
""",
    "dvc.yaml": """
stages:
  download: {cmd: python -m stages.tiny download, deps: [stages/tiny.py], outs: [data/download]}
  subsample: {cmd: python -m stages.tiny subsample, deps: [stages/tiny.py], params: [seed], outs: [data/subsample]}
  train_real:
    foreach: ${arms.real}
    do:
      cmd: python -m stages.tiny train ${key}
      deps: [data/subsample, stages/tiny.py]
      params: [train.trials, "arms.real.${key}.mix"]
      outs: ["data/train/${key}"]
  train:
    foreach: ${arms.synthetic}
    do:
      cmd: python -m stages.tiny train ${key}
      deps: [data/subsample, stages/tiny.py]
      params: [train.trials, train.pause, train.finish, synth.gamma, "arms.synthetic.${key}.p"]
      outs: ["data/train/${key}"]
  evaluate:
    cmd: python -m stages.tiny evaluate
    deps: [data/download, data/train, stages/tiny.py]
    params: [arms, evaluate.many, evaluate.few, evaluate.bootstrap]
    metrics: [{metrics/evaluate.json: {cache: false}}]
  assess:
    cmd: python -m stages.tiny assess
    deps: [data/subsample, stages/tiny.py]
    outs: [data/assess]
    metrics: [{metrics/assess.json: {cache: false}}]
""",
    "stages/tiny.py": '''
"""Arms are right on a quarter of the images, synthetic ones on gamma of them."""
import json, sys, time
from pathlib import Path
import yaml

PARAMS = yaml.safe_load(Path("params.yaml").read_text())
RULE = PARAMS["train"]

def write(path, text):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)

def share(arm):
    return PARAMS["synth"]["gamma"] if arm in PARAMS["arms"]["synthetic"] else 0.25

def train(arm):
    if arm == "diffmix":
        time.sleep(RULE["pause"])
        RULE["finish"] or sys.exit("stopped on purpose")
    right = 40 * share(arm)
    lines = [f"{t},test,k{n:02d},{n % 4},{n % 4 + (n >= right)}," for t in range(RULE["trials"]) for n in range(40)]
    write(f"data/train/{arm}/predictions.csv", "\\n".join(["trial,split,key,label,predicted,group", *lines]) + "\\n")

def evaluate():
    top1 = {path.name: 100 * share(path.name) for path in Path("data/train").iterdir()}
    gain = {arm: {"top1": value - 25, "top1_ci": [1, 2]} for arm, value in top1.items() if arm != "baseline"}
    write("metrics/evaluate.json", json.dumps({"arms": {arm: {"top1": v} for arm, v in top1.items()}, "gain": gain}))

def assess():
    rows = "".join(f"{n},{int(n > 1)},{int(n > 2)}\\n" for n in range(8))
    write("data/assess/images.csv", "key,kept,faithful\\n" + rows)
    write("metrics/assess.json", json.dumps({"faithfulness": {"all": 62.5}}))

what, *arm = sys.argv[1:]
if what == "download":
    write("data/download/classes.csv", "index,name\\n0,a\\n1,b\\n2,c\\n3,d\\n")
elif what == "subsample":
    write("data/subsample/manifest.csv", "key,label\\n" + "".join(f"{n},{n % 4}\\n" for n in range(8)))
else:
    globals()[what](*arm)
''',
    "experiments/one.yaml": """
title: One
arms: [baseline, diffmix]
arm: diffmix
targets: [evaluate]
columns: {top-1: "evaluate arms.{arm}.top1", gain: "evaluate gain.{arm}.top1"}
rows:
  - {name: baseline, arm: baseline, paper: {top-1: 12.5}}
  - {name: Diff-Mix}
  - {name: more, set: {synth.gamma: 0.75}}
  - {name: broken, set: {train.finish: false}}
""",
    "experiments/two.yaml": """
title: Two
arms: [baseline, diffmix]
arm: diffmix
targets: [evaluate, assess]
columns: {top-1: "evaluate arms.{arm}.top1", faithfulness: "assess faithfulness.all"}
rows:
  - {name: again, targets: [evaluate]} # the same as One's Diff-Mix
  - {name: slow, set: {train.pause: 12}}
""",
    "experiments/claims.yaml": """
title: Claims
margin: 2.0
claims:
  a:
    text: more is more
    source: by construction
    parts:
      - {better: one/more, worse: one/baseline, measure: top1}
      - {better: one/more, worse: [one/Diff-Mix, one/baseline], measure: medium}
  b: {text: the filter is right, source: by construction, parts: [{row: two/slow, column: faithful}]}
""",
}


def call(folder: Path, *command: str, status: int = 0) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def run(folder: Path, *words: str, status: int = 0) -> str:
    return call(folder, sys.executable, "-m", "experiments.run", *words, status=status)


def table(folder: Path, name: str) -> dict[str, dict]:
    """A table's rows by name."""
    return {row["name"]: row for row in json.loads((folder / f"metrics/paper/{name}.json").read_text())["rows"]}


def refs(folder: Path) -> list[str]:
    """The names of the experiments that are there."""
    names = call(folder, "git", "for-each-ref", "--format=%(refname)", "refs/exps").split()
    return [name.split("/")[-1] for name in names if "celery" not in name]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository whose stages are tiny, with this project's experiments/*.py and shared modules."""
    folder = tmp_path_factory.mktemp("experiments")
    for path, text in FILES.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text.lstrip())
    shutil.copytree(ROOT / "stages/shared", folder / "stages/shared", ignore=shutil.ignore_patterns("__pycache__"))
    for path in [*(ROOT / "experiments").glob("*.py"), ROOT / "stages/__init__.py"]:
        shutil.copy(path, folder / path.relative_to(ROOT))
    shutil.copy(folder / "presets/toybirds.yaml", folder / "params.yaml")
    call(folder, "git", "init", "-q")
    call(folder, "dvc", "init", "-q")
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "tiny")
    return folder


@pytest.fixture(scope="module")
def first(project) -> str:
    """What the first call for table One says."""
    return run(project, "one", status=1)


def test_the_plan_is_printed_and_nothing_runs(project):
    output = run(project, "one", "--dry")
    assert "4 rows, 3 experiments: 0 are there, 3 to run" in output
    assert refs(project) == []


def test_rows_are_measured_at_their_experiments(project, first):
    rows = table(project, "one")
    assert [rows[name]["measured"]["top-1"]["value"] for name in ("baseline", "Diff-Mix", "more")] == [25.0, 50.0, 75.0]
    assert rows["more"]["measured"]["gain"] == {"value": 50.0, "interval": [1, 2]}
    assert rows["baseline"]["experiment"] == rows["Diff-Mix"]["experiment"]


def test_a_failed_row_shows_its_log_and_is_missing_while_the_others_go_on(project, first):
    assert "stopped on purpose" in first
    assert table(project, "one")["broken"]["measured"] is None
    assert len(refs(project)) == 2
    assert "| broken | missing | missing |  |" in (project / "metrics/paper/one.md").read_text()


def test_what_is_there_is_not_run_again(project, first):
    output = run(project, "one", "baseline", "more")
    assert "2 rows, 2 experiments: 2 are there, 0 to run" in output
    assert len(refs(project)) == 2


def test_an_interrupted_call_goes_on_and_shares_what_another_table_ran(project, first):
    began = subprocess.Popen([sys.executable, "-m", "experiments.run", "two"], cwd=project, env=ENVIRONMENT)
    deadline = time.monotonic() + 60
    while "Running" not in call(project, "dvc", "queue", "status") and time.monotonic() < deadline:
        time.sleep(0.5)
    began.send_signal(signal.SIGINT)
    assert began.wait(30) == 130
    output = run(project, "two")
    assert "2 rows, 2 experiments: 1 are there, 1 to run" in output
    rows = table(project, "two")
    assert rows["slow"]["measured"]["faithfulness"] == {"value": 62.5}
    assert rows["again"]["experiment"] == table(project, "one")["Diff-Mix"]["experiment"]
    assert sum(name.startswith("two-slow") for name in refs(project)) == 1


def test_columns_of_a_target_that_a_row_did_not_run_stay_empty(project, first):
    assert "faithfulness" not in table(project, "two")["again"]["measured"]


def test_claims_are_measured_across_experiments(project, first):
    run(project, "claims")
    claims = json.loads((project / "metrics/claims.json").read_text())["claims"]
    assert [part["difference"][0] for part in claims["a"]["parts"]] == [50.0, 37.5]  # 75 - 25; 75 - (50 + 25) / 2
    assert [claim["verdict"] for claim in claims.values()] == ["holds", "holds"]


def test_a_changed_file_is_refused_before_anything_is_queued(project, first):
    code = project / "stages/tiny.py"
    text = code.read_text()
    code.write_text(text + "\n# changed\n")
    output = run(project, "one", "more", status=1)
    code.write_text(text)
    assert "stages/tiny.py: differs from the last commit; commit (or stash) first" in output


def test_a_fresh_clone_has_the_recorded_rows_and_claims(project, first, tmp_path):
    call(project, "git", "add", "-A")
    call(project, "git", "commit", "-qm", "results")
    call(tmp_path, "git", "clone", "-q", str(project), "clone")
    clone = tmp_path / "clone"
    assert refs(clone) == []
    assert "1 to run\n  one-broken" in run(clone, "one", "--dry")
    assert "0 to run" in run(clone, "claims")
    assert call(clone, "git", "status", "--porcelain") == ""

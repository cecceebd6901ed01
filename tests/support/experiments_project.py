"""A small project to run experiments in: stages that take no time, two tables, two claims."""

import shutil
from pathlib import Path

from tests.support.closure import ROOT
from tests.support.small_project import dvc, run

FILES = {
    ".gitignore": "/data/*\n__pycache__/\n",
    "presets/toybirds.yaml": """
data: {name: toybirds}
seed: 0
synth: {gamma: 0.5}
train: {trials: 2, hold: false, finish: true}
arms: {real: {baseline: {mix: none}, cutmix: {mix: cutmix}}, synthetic: {diffmix: {p: 0.5}}}
evaluate: {many: 3, few: 2, bootstrap: 200}
""",
    "dvc.yaml": """
stages:
  download: {cmd: python -m stages.tiny download, deps: [stages/tiny.py], outs: [data/download]}
  subsample:
    cmd: python -m stages.tiny subsample
    deps: [stages/tiny.py]
    params: [seed]
    outs: [data/subsample]
  train_real:
    foreach: ${arms.real}
    do:
      cmd: python -m stages.tiny train ${key}
      deps: [data/subsample, stages/tiny.py]
      params: [train.trials, "arms.real.${key}.mix"]
      outs: ["data/train/${key}"]
      metrics: ["metrics/train/${key}.json": {cache: false}]
  train:
    foreach: ${arms.synthetic}
    do:
      cmd: python -m stages.tiny train ${key}
      deps: [data/subsample, stages/tiny.py]
      params: [train.trials, train.hold, train.finish, synth.gamma, "arms.synthetic.${key}.p"]
      outs: ["data/train/${key}"]
      metrics: ["metrics/train/${key}.json": {cache: false}]
  evaluate:
    cmd: python -m stages.tiny evaluate
    deps: [data/download, data/train, stages/tiny.py]
    params: [seed, arms, evaluate.many, evaluate.few, evaluate.bootstrap]
    metrics: [{metrics/evaluate.json: {cache: false}}]
  assess:
    cmd: python -m stages.tiny assess
    deps: [data/subsample, stages/tiny.py]
    outs: [data/assess]
    metrics: [{metrics/assess.json: {cache: false}}]
""",
    "stages/tiny.py": '''
"""Arms are right on a quarter of the images, synthetic ones on gamma of them."""
import json, os, sys, time
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
        while RULE["hold"] and Path(os.environ["HOLD"]).exists():
            time.sleep(0.1)
        RULE["finish"] or sys.exit("stopped on purpose")
    right = 40 * share(arm)
    lines = ["trial,split,key,label,predicted,group"]
    for trial in range(RULE["trials"]):
        for n in range(40):
            lines.append(f"{trial},test,k{n:02d},{n % 4},{n % 4 + (n >= right)},")
    write(f"data/train/{arm}/predictions.csv", "\\n".join(lines) + "\\n")
    write(f"metrics/train/{arm}.json", json.dumps({"loss": 0.5}))

def evaluate():
    arms = [path.name for path in Path("data/train").iterdir()]
    chance = PARAMS["seed"] / 10  # what another seed adds to the synthetic arms
    top1 = {arm: 100 * share(arm) + chance * (arm in PARAMS["arms"]["synthetic"]) for arm in arms}
    arms = {arm: {"top1": value} for arm, value in top1.items()}
    gain = {arm: {"top1": value - 25, "top1_ci": [1, 2]} for arm, value in top1.items()}
    gain.pop("baseline", None)
    write("metrics/evaluate.json", json.dumps({"arms": arms, "gain": gain}))

def assess():
    write("data/assess/images.csv", "")
    measured = {"all": 62.5, "measure": "judge", "filter_gain": 50}
    write("metrics/assess.json", json.dumps({"faithfulness": measured}))

what, *arm = sys.argv[1:]
if what == "download":
    write("data/download/classes.csv", "index,name\\n0,a\\n1,b\\n2,c\\n3,d\\n")
elif what == "subsample":
    rows = "".join(f"{n},{n % 4}\\n" for n in range(8))
    write("data/subsample/manifest.csv", "key,label\\n" + rows)
else:
    globals()[what](*arm)
''',
    "experiments/tables/one.yaml": """
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
    "experiments/tables/two.yaml": """
title: Two
arms: [baseline, diffmix]
arm: diffmix
targets: [evaluate, assess]
columns: {top-1: "evaluate arms.{arm}.top1", faithfulness: "assess faithfulness.all"}
rows:
  - {name: again, targets: [evaluate]} # the same as One's Diff-Mix
  - {name: slow, set: {train.hold: true}}
""",
    "experiments/tables/claims.yaml": """
title: Claims
replicates: 3
level: 0.05
margin: 2.0
claims:
  a:
    text: more is more
    paper: more
    source: by construction
    parts:
      - {label: more, better: one/more, worse: one/baseline, measure: top1}
      - {label: still more, better: one/more, worse: [one/Diff-Mix, one/baseline], measure: top1}
  b:
    text: the filter is right
    source: by construction
    parts: [{label: the filter, better: two/slow, measure: filter_gain}]
""",
}


def build(folder: Path) -> Path:
    """A repository of these files, with this project's experiments and shared modules."""
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.lstrip())
    shutil.copy(folder / "presets/toybirds.yaml", folder / "params.yaml")

    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages/shared", folder / "stages/shared", ignore=without_caches)
    for path in [*(ROOT / "experiments").rglob("*.py"), ROOT / "stages/__init__.py"]:
        copied = folder / path.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copied)

    run(folder, "git", "init", "-q")
    dvc(folder, "init", "-q")
    shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-qm", "tiny")

    return folder

"""A small git and DVC repository, run for real.

It has a stage, and another for each of two arms; none takes time.
"""

import sys
from pathlib import Path

from tests.support.closure import ROOT
from tests.support.small_project import run

PHOTOS = "data: {folder: {path: photos}}\n"
PARAMS = f"{PHOTOS}size: 300\narms: {{plain: {{factor: 1}}, double: {{factor: 2}}}}\n"
FILES = {
    ".gitignore": "/data/\n__pycache__/\n",
    "params.yaml": PARAMS,
    "presets/toy.yaml": PARAMS,
    "presets/other.yaml": f"{PHOTOS}size: 40\narms: {{plain: {{factor: 3}}}}\n",
    "photos/.gitkeep": "",
    "dvc.yaml": """
stages:
  make:
    cmd: python make.py
    deps: [make.py, "${data.folder.path}"]
    params: [size]
    outs: [data/make]
  measure:
    foreach: ${arms}
    do:
      cmd: python measure.py ${key}
      deps: [data/make, measure.py]
      params: ["arms.${key}.factor"]
      outs: ["metrics/plots/${key}": {cache: false}]
      metrics: ["metrics/${key}.json": {cache: false}]
""",
    "make.py": """
from pathlib import Path
import yaml
size = yaml.safe_load(open("params.yaml"))["size"]
Path("data/make").mkdir(parents=True)
Path("data/make/numbers.bin").write_bytes(bytes(n % 256 for n in range(size)))
Path("data/make/fixed.txt").write_text("fixed")
""",
    "measure.py": """
import json, sys
from pathlib import Path
import yaml
arm = sys.argv[1]
factor = yaml.safe_load(open("params.yaml"))["arms"][arm]["factor"]
mean = sum(Path("data/make/numbers.bin").read_bytes()) * factor
Path(f"metrics/plots/{arm}").mkdir(parents=True)
Path(f"metrics/plots/{arm}/curve.csv").write_text(f"epoch,loss\\n0,{mean}\\n1,{mean / 2}\\n")
Path(f"metrics/{arm}.json").write_text(json.dumps({"arm": arm, "top1": mean}))
""",
}
# Another make.py, whose result is never the same.
RANDOM = """
import os
from pathlib import Path
Path("data/make").mkdir(parents=True)
Path("data/make/numbers.bin").write_bytes(os.urandom(300))
"""


def call(folder: Path, *command: str, status: int = 0) -> str:
    return run(folder, *command, status=status, PYTHONPATH=str(ROOT))


def python(folder: Path, *words: str, status: int = 0) -> str:
    return call(folder, sys.executable, "-m", *words, status=status)


def build(folder: Path, **changed: str) -> Path:
    """The repository with its results committed.

    `changed` holds other content for files, by their stems.
    """
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(changed.get(Path(name).stem, text).lstrip())

    call(folder, "git", "init", "-q")
    python(folder, "dvc", "init", "-q")
    python(folder, "dvc", "config", "core.analytics", "false")
    python(folder, "dvc", "repro", "-q")
    commit(folder)

    return folder


def commit(folder: Path) -> None:
    call(folder, "git", "add", "-A")
    call(folder, "git", "commit", "-qm", "results")


def clone(source: Path, folder: Path) -> Path:
    """Clone the repository as a reviewer has it, without data and cache."""
    call(source, "git", "clone", "-q", str(source), str(folder))
    return folder

"""notebooks/results.ipynb runs in a clone without data, and shows what metrics/ holds.

Its code cells are executed in order by a plain interpreter: a kernel and nbclient would bring 26
packages, 80 MB, for what is Python without magics.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.closure import ROOT
from tests.support.small_project import run

NOTEBOOK = ROOT / "notebooks/results.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
# What a cell shows is in its variables, and in the figures.
EXECUTE = """
import json, sys

names = {}
for source in json.loads(sys.argv[1]):
    exec(source, names)

plt, frames = names["plt"], ("gains", "changes", "tables")
found = {name: json.loads(names[name].to_json(orient="split")) for name in frames}
bars, dots = (plt.figure(number).axes[0] for number in plt.get_fignums())
segments = bars.containers[0].lines[2][0].get_segments()
found["bars"] = [[ends[:, 0].tolist(), ends[0, 1].item()] for ends in segments]
found["bar names"] = [label.get_text() for label in bars.get_yticklabels()]
found["dots"] = {each.get_label(): each.get_offsets().tolist() for each in dots.collections}
print(json.dumps(found))
"""

SMALL = {
    "evaluate.json": {
        "arms": {"baseline": {"top1": 80.0}, "one": {"top1": 85.0}, "two": {"top1": 79.0}},
        "gain": {
            "one": {"top1": 5.0, "top1_ci": [2.0, 7.5]},
            "two": {"top1": -1.0, "top1_ci": [-3.0, 0.5]},
        },
    },
    "paper/another.json": {"machine": "two cores", "rows": [{"name": "Diff-Mix"}]},
    "paper/table.json": {
        "columns": {"top-1": "", "loss": ""},
        "rows": [
            {
                "name": "Diff-Mix", "arm": "one", "paper": {"top-1": 70.5},
                "measured": {
                    "top-1": {"value": 85.0, "interval": [84.0, 86.0]}, "loss": {"value": 0.25},
                },
            },
            {"name": "not run", "arm": "one", "paper": {"top-1": 60.0}, "measured": None},
        ],
    },
}  # fmt: skip
TEXTS = {
    "per_class.csv": "class,train_images,baseline,one,two\nA,20,90,95,90\nB,1,50,40,60.5\n",
    "plots/groups.csv": "arm,part,accuracy\nbaseline,test,80.0\none,test,85.0\n",
    "plots/curves.csv": "arm,epoch,loss\nbaseline,0,2.0\nbaseline,1,1.0\n",
    "plots/confusion.csv": "arm,actual,predicted,percent\none,A,A,95.0\none,A,B,5.0\n",
}


def execute(clone: Path) -> dict[str, Any]:
    """What the notebook finds and draws, started in its own folder, as Jupyter does."""
    words = [sys.executable, "-c", EXECUTE, json.dumps(CODE)]
    return json.loads(run(clone / "notebooks", *words, MPLBACKEND="agg").splitlines()[-1])


@pytest.fixture
def clone(tmp_path) -> Path:
    """A folder with the notebook, and what tells it where the project's root is."""
    (tmp_path / "notebooks").mkdir()
    shutil.copy(ROOT / "dvc.yaml", tmp_path / "dvc.yaml")
    return tmp_path


def test_no_output_is_stored():
    stored = [cell for cell in CELLS if cell.get("outputs") or cell.get("execution_count")]
    assert stored == []


def test_it_shows_gains_changes_and_tables(clone):
    texts = TEXTS | {name: json.dumps(content) for name, content in SMALL.items()}
    for name, text in texts.items():
        (clone / "metrics" / name).parent.mkdir(parents=True, exist_ok=True)
        (clone / "metrics" / name).write_text(text)

    found = execute(clone)

    assert found["gains"]["data"] == [[5.0, 2.0, 7.5], [-1.0, -3.0, 0.5]]
    assert found["bars"] == [[[2.0, 7.5], 0.0], [[-3.0, 0.5], 1.0]]
    assert found["bar names"] == ["one", "two"]

    assert found["changes"]["columns"] == ["one", "two"]
    assert found["changes"]["data"] == [[5.0, 0.0], [-10.0, 10.5]]
    assert found["dots"] == {"one": [[20, 5.0], [1, -10.0]], "two": [[20, 0.0], [1, 10.5]]}

    assert found["tables"]["data"] == [
        ["table", "Diff-Mix", "one", "top-1", 85.0, 84.0, 86.0, 70.5],
        ["table", "Diff-Mix", "one", "loss", 0.25, None, None, None],
    ]


def test_it_runs_in_a_clone_without_data(clone):
    for name in run(ROOT, "git", "ls-files", "metrics").split():
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)

    found = execute(clone)

    gain = json.loads((ROOT / "metrics/evaluate.json").read_text())["gain"]
    assert found["gains"]["index"] == list(gain)
    assert set(found["dots"]) == set(gain)

"""What a fingerprint covers, and what it leaves out."""

from pathlib import Path

import pytest

from experiments.running.fingerprint import Stages, fingerprint, needed, read_stages, sources
from experiments.tables.recipes import Tree
from stages.shared.errors import BadInput
from tests.support.closure import ROOT

PARAMS: Tree = {
    "data": {"name": "toybirds"},
    "seed": 0,
    "gamma": 0.5,
    "report": 1,
    "arms": {"real": {"baseline": {"mix": "none"}}},
}
STAGES: Stages = {
    "check": {
        "cmd": "check",
        "deps": ["params.yaml", "code.py", "report.py"],
        "outs": ["data/check"],
    },
    "make": {
        "cmd": "make",
        "deps": ["data/check", "code.py"],
        "params": ["seed"],
        "outs": ["data/made"],
    },
    "train": {
        "cmd": "train ${key}",
        "deps": ["data/made/a.csv"],
        "params": ["gamma", "arms.${key}.mix"],
        "outs": ["data/train/${key}"],
    },
    "evaluate": {
        "cmd": "evaluate",
        "deps": ["data/train"],
        "metrics": [{"metrics/evaluate.json": {"cache": False}}],
    },
    "assess": {"cmd": "assess", "deps": ["data/made"]},
    "report": {
        "cmd": "report",
        "deps": ["metrics/evaluate.json", "report.py"],
        "params": ["report"],
    },
}


@pytest.fixture
def code(tmp_path) -> Path:
    (tmp_path / "code.py").write_text("one = 1\n")
    (tmp_path / "report.py").write_text("two = 2\n")
    return tmp_path


def fingerprint_of(
    code: Path, params: dict, stages: dict = STAGES, targets: tuple[str, ...] = ("evaluate",)
) -> str:
    return fingerprint(stages, targets, params, code)


def test_a_fingerprint_covers_the_stages_behind_the_target():
    assert set(needed(STAGES, ["evaluate"])) == {"evaluate", "train", "make"}


def test_a_fingerprint_changes_with_a_parameter(code):
    assert fingerprint_of(code, PARAMS) != fingerprint_of(code, PARAMS | {"gamma": 0.3})


def test_a_fingerprint_changes_with_an_arm(code):
    other = PARAMS | {"arms": {"real": {"baseline": {"mix": "cutmix"}}}}

    assert fingerprint_of(code, PARAMS) != fingerprint_of(code, other)


def test_a_fingerprint_changes_with_the_code(code):
    before = fingerprint_of(code, PARAMS)
    (code / "code.py").write_text("one = 11\n")

    assert fingerprint_of(code, PARAMS) != before


def test_a_fingerprint_changes_with_a_stages_command(code):
    stages = STAGES | {"make": STAGES["make"] | {"cmd": "make -j"}}

    assert fingerprint_of(code, PARAMS) != fingerprint_of(code, PARAMS, stages)


def test_a_fingerprint_does_not_change_with_order_or_descriptions(code):
    stages = {name: STAGES[name] | {"desc": name} for name in reversed(STAGES)}
    stages["check"]["deps"] = list(reversed(stages["check"]["deps"]))
    stages["train"] = stages["train"] | {"params": list(reversed(STAGES["train"]["params"]))}
    params = dict(reversed(PARAMS.items()))

    assert fingerprint_of(code, PARAMS) == fingerprint_of(code, params, stages)


def test_a_fingerprint_does_not_change_with_what_comes_after_the_target(code):
    before = fingerprint_of(code, PARAMS)
    (code / "report.py").write_text("two = 22\n")

    assert fingerprint_of(code, PARAMS | {"report": 2}) == before


def test_the_files_of_the_real_pipeline_are_code_and_the_base_but_no_stages_output():
    stages = read_stages(ROOT / "dvc.yaml")
    files = {str(path) for path in sources(needed(stages, ["evaluate", "assess"]), stages, ROOT)}

    assert {"stages/train.py", "stages/assess.py", "data/base/toybirds/clip/config.json"} <= files
    assert not [file for file in files if not file.startswith(("stages/", "data/base/"))]
    assert "stages/report.py" not in files


def photographed(code: Path, name: str, content: str) -> str:
    """The fingerprint with a folder of one photo."""
    photo = code / name / "train/dog/a.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_text(content)

    return fingerprint_of(code, PARAMS | {"data": {"name": "folder", "folder": {"path": name}}})


def test_a_fingerprint_changes_with_the_listing_of_the_photos(code):
    """By names and sizes: a content of the same length is the same to it."""
    before = photographed(code, "one", "ab")

    assert photographed(code, "two", "cd") == before
    assert photographed(code, "three", "abc") != before


def test_without_a_folder_of_photos_a_fingerprint_knows_of_none(code):
    elsewhere = {"data": {"name": "toybirds", "folder": {"path": "nowhere"}}}
    assert fingerprint_of(code, PARAMS | elsewhere) == fingerprint_of(code, PARAMS)


def test_a_folder_of_photos_that_is_not_there_is_named(code):
    with pytest.raises(BadInput, match=r"data\.folder\.path: there is no folder .*nowhere"):
        fingerprint_of(code, PARAMS | {"data": {"name": "folder", "folder": {"path": "nowhere"}}})

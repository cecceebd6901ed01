"""dvc.yaml declares what the code does: parameters, dependencies, and what a change makes stale.

What is stale is asked of DVC itself.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import networkx
import pytest
import yaml
from dvc.repo import Repo

from stages import check
from stages.shared.params import leaves
from tests.support.closure import ROOT, closure

LOCK = ROOT / "dvc.lock"
ARMS = yaml.safe_load((ROOT / "params.yaml").read_text())["arms"]
SYNTHETIC = {f"train@{name}" for name in ARMS["synthetic"]}
REAL = {f"train_real@{name}" for name in ARMS["real"]}
END = {"evaluate", "report"}
AFTER_FILTER = SYNTHETIC | END
AFTER_SYNTHESIZE = AFTER_FILTER | {"filter", "assess"}
AFTER_PLAN = AFTER_SYNTHESIZE | {"synthesize", "attention"}
AFTER_FINETUNE = AFTER_PLAN
# At most these: test_method has what a choice changes for each of them.
AFTER_METHOD = AFTER_PLAN | {"finetune", "plan"}
AFTER_SUBSAMPLE = AFTER_METHOD | REAL

# Every leaf of params.yaml, by prefix, and all that it makes stale, except check, which reads the
# whole file.
INVALIDATES = {
    "seed": AFTER_SUBSAMPLE | {"subsample"},
    "method": AFTER_METHOD | {"method"},
    "data.": AFTER_SUBSAMPLE | {"subsample", "download"},
    "subset.": AFTER_SUBSAMPLE | {"subsample"},
    "base.": AFTER_FINETUNE | {"finetune"},
    "finetune.strategy": AFTER_METHOD | {"method"},
    "finetune.": AFTER_FINETUNE | {"finetune"},
    "synth.strength": AFTER_METHOD | {"method"},
    "synth.multiplier": AFTER_PLAN | {"plan"},
    "synth.referable_classes": AFTER_PLAN | {"plan"},
    "synth.pairing": AFTER_PLAN | {"plan"},
    "synth.gamma": AFTER_FILTER,
    "synth.sampler": AFTER_PLAN,
    "synth.lcm_lora.": AFTER_PLAN,
    "synth.steps": AFTER_PLAN,
    "synth.guidance_scale": AFTER_PLAN,
    "synth.guidance_stop": AFTER_PLAN,
    "synth.cache_interval": AFTER_PLAN,
    "synth.resolution": AFTER_PLAN,
    "synth.batch": AFTER_PLAN,
    "synth.keep_background": AFTER_PLAN - {"attention"},
    "clip.": AFTER_PLAN | {"plan"},
    "filter.criterion": AFTER_METHOD | {"method"},
    "filter.drop": AFTER_METHOD | {"method"},
    "assess.": {"assess", "report"},
    "attention.": {"attention", "report"},
    "train.": SYNTHETIC | REAL | END,
    **{f"arms.real.{name}.": {f"train_real@{name}"} | END for name in ARMS["real"]},
    **{f"arms.synthetic.{name}.": {f"train@{name}"} | END for name in ARMS["synthetic"]},
    "evaluate.": END,
}
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
LEAVES = list(check.paths(PARAMS))


def stages() -> dict[str, dict]:
    """dvc.yaml's stages as written; a foreach stage by the body of its `do`."""
    declared = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    return {name: stage.get("do", stage) for name, stage in declared.items()}


def module(stage: str) -> str:
    return f"stages/{stage.removesuffix('_real')}.py"


def listed_code(stage: str) -> set[str]:
    """The modules among a stage's dependencies; a folder stands for all of its modules."""
    found: set[str] = set()

    for dep in stages()[stage]["deps"]:
        path = ROOT / dep
        if dep.startswith("stages/") and path.suffix == ".py":
            found.add(dep)
        elif dep.split("/")[0] == "stages" and path.is_dir():
            found |= {file.relative_to(ROOT).as_posix() for file in path.rglob("*.py")}

    return {path for path in found if not path.endswith("__init__.py")}


@pytest.mark.parametrize("stage", [name for name in stages() if name != "check"])
def test_a_stage_depends_on_the_files_that_it_imports_and_on_no_other(stage):
    assert listed_code(stage) == closure(module(stage))


def test_every_stage_compares_its_inputs_when_it_ends():
    """DVC hashes them only then."""
    ends = {module(stage): (ROOT / module(stage)).read_text()[-45:] for stage in stages()}
    assert {text.partition("if __name__")[2] for text in ends.values()} == {
        ' == "__main__":\n    run(main)\n'
    }


def test_check_depends_on_all_code_and_imports_no_stage():
    assert "stages" in stages()["check"]["deps"]
    others = {module(stage) for stage in stages() if stage != "check"}
    assert not others & closure("stages/check.py")


def test_check_imports_no_library_that_takes_seconds():
    code = "import sys, stages.check; print(*{'torch', 'pandas', 'diffusers'} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_each_stages_params_are_those_of_its_model():
    declared = {name: stage["params"] for name, stage in stages().items() if "params" in stage}

    models = {schema.__name__.rpartition(".")[2]: leaves(schema.Params) for schema in check.SCHEMAS}
    models["train_real"] = leaves(check.ARMS["real"], {"arm": "arms.real.${key}"})
    models["train"] = leaves(check.ARMS["synthetic"], {"arm": "arms.synthetic.${key}"})
    expected = {name: sorted(paths) for name, paths in models.items() if paths}

    assert {name: sorted(names) for name, names in declared.items()} == expected


@pytest.mark.parametrize(
    ("stage", "foreign"),
    [
        ("finetune", "stages/shared/classifier/networks.py"),
        ("synthesize", "stages/shared/classifier/networks.py"),
        ("train", "stages/shared/diffusion/base_model.py"),
        ("evaluate", "stages/shared/diffusion/base_model.py"),
    ],
)
def test_the_generator_and_the_classifier_import_nothing_of_each_other(stage, foreign):
    assert (ROOT / foreign).is_file()
    assert foreign not in closure(module(stage))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A copy of the project's own files with its dvc.lock, and no data."""
    folder = tmp_path_factory.mktemp("scratch")
    for name in ("dvc.yaml", "dvc.lock", "params.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    without_caches = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=without_caches)

    before = Path.cwd()
    os.chdir(folder)
    yield folder, Repo.init(str(folder), no_scm=True)
    os.chdir(before)


def edited(path: str) -> dict:
    """params.yaml with one leaf changed."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    *parents, name = path.split(".")
    node = tree
    for parent in parents:
        node = node[parent]
    node[name] = f"{node[name]} changed"

    return tree


def stale(folder: Path, tree: dict) -> set[str]:
    """The stages whose parameters DVC sees modified, and all that DVC's graph puts after them."""
    (folder / "params.yaml").write_text(yaml.safe_dump(tree))
    repo = Repo(str(folder))

    modified = set()
    for name, changes in repo.status().items():
        for change in changes:
            deps = change.get("changed deps", {}) if isinstance(change, dict) else {}
            if deps.get("params.yaml") not in (None, "modified"):
                modified.add(name)

    graph = repo.index.graph  # edges run from a stage to what it needs
    by_name = {stage.addressing: stage for stage in graph}
    found = set(modified)
    for name in modified:
        found |= {stage.addressing for stage in networkx.ancestors(graph, by_name[name])}

    return found


def expected(path: str) -> set[str]:
    """What the table says of a leaf, by its longest prefix."""
    matches = [
        prefix
        for prefix in INVALIDATES
        if path == prefix or (prefix[-1] == "." and path.startswith(prefix))
    ]
    assert matches, f"{path} is not in the invalidation table"

    return INVALIDATES[max(matches, key=len)]


@pytest.mark.parametrize("path", LEAVES)
def test_a_changed_leaf_makes_stale_exactly_the_stages_of_the_table(path, scratch):
    assert stale(scratch[0], edited(path)) == expected(path)


def test_an_unchanged_file_makes_nothing_stale(scratch):
    assert stale(scratch[0], PARAMS) == set()


def test_dvc_watches_the_folder_of_photos(scratch):
    photos = scratch[0] / "data/no-photos"
    photos.mkdir(parents=True)
    (photos / ".gitkeep").touch()
    (scratch[0] / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    assert "data/no-photos" not in changed_deps("download", scratch[0])

    (photos / "a.jpg").write_bytes(b"a photo")
    assert "data/no-photos" in changed_deps("download", scratch[0])


def changed_deps(stage: str, folder: Path) -> set[str]:
    found: set[str] = set()
    for change in Repo(str(folder)).status().get(stage, []):
        if isinstance(change, dict):
            found |= set(change.get("changed deps", {}))

    return found


def test_artifacts_are_what_stages_make():
    """`dvc artifacts get` finds them by name."""
    outputs = {
        out for stage in yaml.safe_load(LOCK.read_text())["stages"].values()
        for out in (each["path"] for each in stage.get("outs", []))
    }  # fmt: skip
    with Repo(ROOT) as repo:
        artifacts = repo.artifacts.read()["dvc.yaml"]

    assert {"classifier", "generator", "images"} == set(artifacts)
    for artifact in artifacts.values():
        assert artifact.path in outputs
        assert artifact.type in ("model", "dataset")
        assert artifact.desc

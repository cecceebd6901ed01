"""Nothing that is loaded is code.

No pickle is read, no code of a hub's repository, no YAML tag that calls, and no shell is used.
"""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from stages.pretraining import training
from stages.shared.classifier import training as classifier
from stages.shared.errors import BadInput
from tests.support.closure import ROOT

FILES = sorted(
    path
    for folder in ("stages", "experiments", "benchmarks")
    for path in (ROOT / folder).rglob("*.py")
)
PICKLES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal",
    "jsonpickle",
}  # fmt: skip
EXECUTES = {"eval", "exec", "compile", "__import__"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
UNSAFE_YAML = {"yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"}
SAFE_LOADERS = {"yaml.SafeLoader"}
SAFE_TYPES = ("safe", "rt")  # of ruamel.yaml: neither makes objects of any class
TAKEN_ALONE = {"load", "system", "popen", "getoutput"}  # dangerous without their module's name
UNSAFE_OPTIONS = {"allow_pickle", "trust_remote_code", "shell"}
NO_WEIGHTS = ("Processor", "Tokenizer", "Scheduler", "Config")  # these have configuration only


def dotted(node: ast.expr) -> str:
    """A function's name as it is called, "torch.load"; "?.eval" for a computed object's method."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"

    return node.id if isinstance(node, ast.Name) else "?"


def has_option(call: ast.Call, name: str, value: bool) -> bool:
    """Whether the call has this argument by name, with this very value."""
    for keyword in call.keywords:
        if keyword.arg == name and isinstance(keyword.value, ast.Constant):
            return keyword.value.value is value

    return False


def faults(source: str) -> Iterator[str]:
    """What a module does that could run what it loads."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None) or ""}
            if found := {name.split(".")[0] for name in names} & PICKLES:
                yield f"imports {min(found)}"

        watched = ("torch", "yaml", "os", "subprocess")
        if isinstance(node, ast.ImportFrom) and node.module in watched:
            for name in {alias.name for alias in node.names} & TAKEN_ALONE:
                yield f"imports {name} of {node.module}, where it is not seen any more"

        if isinstance(node, ast.Call):
            yield from call_faults(node, dotted(node.func))


def call_faults(call: ast.Call, name: str) -> Iterator[str]:
    """What a single call, of the function `name`, does that could run what it loads."""
    owner, _, method = name.rpartition(".")

    if name == "torch.load" and not has_option(call, "weights_only", True):
        yield "torch.load without weights_only=True"
    if method == "load_state_dict_from_url" and not has_option(call, "weights_only", True):
        yield "load_state_dict_from_url without weights_only=True"

    loads_weights = method == "from_pretrained" and not owner.endswith(NO_WEIGHTS)
    if loads_weights and not has_option(call, "use_safetensors", True):
        yield f"{name} without use_safetensors=True"

    if name in EXECUTES | SHELLS | UNSAFE_YAML or method == "read_pickle":
        yield f"calls {name}"

    loaders = {dotted(argument) for argument in call.args[1:]}
    if name in ("yaml.load", "yaml.load_all") and not loaders & SAFE_LOADERS:
        yield "yaml.load without SafeLoader"
    if method == "YAML":
        types = [keyword.value for keyword in call.keywords if keyword.arg == "typ"]
        if not all(isinstance(typ, ast.Constant) and typ.value in SAFE_TYPES for typ in types):
            yield "YAML of an unsafe type"

    for option in UNSAFE_OPTIONS & {keyword.arg for keyword in call.keywords}:
        if not has_option(call, option, False):
            yield f"{name} with {option}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_loads_nothing_that_could_run(path):
    assert list(faults(path.read_text())) == []


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)", "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)", "torch.hub.load_state_dict_from_url(url)",
        "CLIPModel.from_pretrained(name)",
        "UNet2DConditionModel.from_pretrained(name, use_safetensors=False)",
        "AutoModel.from_pretrained(name, use_safetensors=True, trust_remote_code=True)",
        "np.load(path, allow_pickle=True)", "pd.read_pickle(path)",
        "import pickle", "from pickle import loads", "import joblib",
        "yaml.load(text, yaml.Loader)", "yaml.load(text)", "yaml.unsafe_load(text)",
        "yaml.full_load(text)", 'YAML(typ="unsafe")', "ruamel.yaml.YAML(typ=kind)",
        "eval(text)", "exec(text)", "subprocess.run(line, shell=True)", "os.system(line)",
        "from torch import load", "from os import system",
    ],
)  # fmt: skip
def test_a_call_that_could_run_what_it_loads_is_seen(source):
    assert len(list(faults(source))) == 1


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)", "CLIPProcessor.from_pretrained(name)",
        "CLIPModel.from_pretrained(name, use_safetensors=True)", "np.load(path)",
        "network.eval()", "network.to(device).eval()", "re.compile(text)",
        "yaml.safe_load(text)", 'YAML(typ="safe", pure=True)', "YAML()",
        "subprocess.run(words)", "subprocess.run(words, shell=False)",
    ],
)  # fmt: skip
def test_a_call_that_runs_nothing_is_no_fault(source):
    assert list(faults(source)) == []


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def evil(tmp_path) -> Path:
    """A checkpoint that makes the folder `ran` where it is read as a pickle."""
    path = tmp_path / "checkpoint.pt"
    torch.save({"network": Evil(tmp_path / "ran"), "latents": 0, "state": 0}, path)
    return path


def test_the_checkpoint_of_these_tests_would_run(evil):
    torch.load(evil, weights_only=False)
    assert (evil.parent / "ran").is_dir()


def restore_classifier(path: Path) -> None:
    classifier.restore_state({"network": nn.Linear(1, 1)}, path)


def restore_finetune(path: Path) -> None:
    from stages.finetune import Learner

    # Made without __init__, which would load the base; nothing of the base is needed.
    learner = Learner.__new__(Learner)
    learner.pipeline = nn.Linear(1, 1)
    learner.pipeline.device = torch.device("cpu")
    learner.restore(path)


def restore_pretraining(path: Path) -> None:
    def loss(generator: torch.Generator) -> torch.Tensor:
        return torch.zeros(())

    training.train(path, nn.Linear(1, 1), loss, steps=1, learning_rate=1e-3, seed=0)


@pytest.mark.parametrize("restore", [restore_classifier, restore_finetune, restore_pretraining])
def test_a_checkpoint_that_is_code_is_refused_and_not_run(evil, restore):
    with pytest.raises(BadInput, match="is not a checkpoint"):
        restore(evil)

    assert not (evil.parent / "ran").exists()

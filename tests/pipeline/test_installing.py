"""What another machine installs and starts: pip's package, the devcontainer, the workflow."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from email import message_from_bytes
from functools import cache
from importlib.metadata import packages_distributions
from zipfile import ZipFile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.closure import ROOT, outside_imports
from tests.support.small_project import run

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = packages_distributions()
CONTAINER = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text())


def names(requirements: Iterable[str]) -> set[str]:
    """The distributions that are asked for."""
    return {canonicalize_name(Requirement(text).name) for text in requirements}


REQUIRED = names(PROJECT["dependencies"])
EXTRAS = {extra: names(texts) for extra, texts in PROJECT["optional-dependencies"].items()}


def providers(package: str) -> set[str]:
    """The distributions that bring a package; of one that is not installed, its own name."""
    return {canonicalize_name(name) for name in DISTRIBUTIONS.get(package, [package])}


@cache
def imports(folder: str) -> set[str]:
    """The packages that a folder's modules import, beside Python's own and the project's."""
    paths = (ROOT / folder).rglob("*.py")
    return outside_imports(path.relative_to(ROOT).as_posix() for path in paths)


def undeclared(packages: set[str], declared: set[str]) -> set[str]:
    return {package for package in packages if not providers(package) & declared}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> ZipFile:
    """The wheel, built of what setuptools might take for packages, and of what it reads."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("stages", "experiments", "benchmarks"):
        without_caches = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=without_caches)

    options = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    run(folder, sys.executable, "-m", "pip", "wheel", ".", *options, "--wheel-dir", "wheels")

    return ZipFile(next((folder / "wheels").iterdir()))


def test_pip_installs_no_package_of_the_project(wheel):
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {f"diffmix_repro-{PROJECT['version']}.dist-info"}


def test_without_extras_pip_installs_no_tool_of_development(wheel):
    metadata = next(name for name in wheel.namelist() if name.endswith("/METADATA"))
    found = map(Requirement, message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist"))
    plain = [each for each in found if not each.marker or each.marker.evaluate({"extra": ""})]

    assert {canonicalize_name(each.name) for each in plain} == REQUIRED
    assert not REQUIRED & EXTRAS["dev"]


def test_what_the_code_imports_is_declared():
    optional = EXTRAS["fid"] | EXTRAS["hub"]
    packages = imports("stages") | imports("experiments") | imports("benchmarks")

    assert undeclared(packages, REQUIRED | optional) == set()
    assert undeclared(packages, REQUIRED) == {"datasets", "torch_fidelity"}


def test_what_is_declared_is_imported():
    packages = imports("stages") | imports("experiments")
    used = {name for package in packages for name in providers(package)}
    assert REQUIRED - used == set()


def test_what_the_tests_import_is_declared():
    assert undeclared(imports("tests"), REQUIRED | EXTRAS["dev"]) == set()


def test_every_declared_distribution_has_a_version_in_the_constraints():
    lines = (ROOT / "constraints.txt").read_text().split()
    pinned = names(lines)
    assert all("==" in line for line in lines)
    assert (REQUIRED | EXTRAS["hub"] | EXTRAS["dev"]) - pinned == set()


def test_the_devcontainer_makes_the_environment_whose_interpreter_it_names():
    command, target = CONTAINER["postCreateCommand"].split()
    assert command == "make"
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)

    # what that target makes the environment in
    environment = re.search(r"^VENV := (.+)$", makefile, re.MULTILINE)
    assert environment
    programs = f"${{containerWorkspaceFolder}}/{environment[1]}/bin"
    settings = CONTAINER["customizations"]["vscode"]["settings"]
    assert settings["python.defaultInterpreterPath"] == f"{programs}/python"
    assert CONTAINER["remoteEnv"]["PATH"].split(":")[0] == programs


def test_the_devcontainer_and_the_workflow_have_a_python_that_the_project_allows():
    python = workflow_steps()[1]["with"]["python-version"]
    assert CONTAINER["image"] == f"python:{python}"
    assert PROJECT["requires-python"] == f">={python}"


def workflow_steps() -> list[dict]:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    return workflow["jobs"]["test"]["steps"]


def test_the_workflow_makes_targets_that_exist():
    commands = [step["run"] for step in workflow_steps() if step.get("run", "").startswith("make")]
    assert commands == ["make lint", "make gate", "make test"]
    for command in commands:
        subprocess.run([*command.split(), "--dry-run"], cwd=ROOT, capture_output=True, check=True)


@pytest.mark.parametrize("summary", ["# A run\n", None])
def test_the_workflow_shows_the_runs_summary_where_there_is_one(summary, tmp_path):
    step = workflow_steps()[-1]
    assert step["if"] == "always()"

    if summary:
        (tmp_path / "metrics").mkdir()
        (tmp_path / "metrics/summary.md").write_text(summary)
    page = tmp_path / "page.md"
    page.write_text("before\n")

    run(tmp_path, "bash", "-e", "-c", step["run"], GITHUB_STEP_SUMMARY=str(page))
    assert page.read_text() == "before\n" + (summary or "")

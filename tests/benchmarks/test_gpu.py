"""`python -m benchmarks.gpu --tiny` on a CPU: every case runs, and says what it should."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import check_device
from benchmarks.gpu.running import all_groups, choose, run
from benchmarks.gpu.sizes import TINY
from benchmarks.gpu.timing import Budget
from stages.shared.errors import BadInput
from tests.support.closure import ROOT

GROUPS = all_groups(TINY)
COMPILED = [group.title for group in GROUPS if "compiled" in group.title]

# torch.compile's own compiler takes minutes on a CPU; here it only traces the networks, as a whole
TRACED = """
import runpy, torch
from functools import partialmethod
torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend="eager")
runpy.run_module("benchmarks.gpu", run_name="__main__", alter_sys=True)
"""
Row = dict[str, Any]


def bench(folder: Path, *words: str, **variables: str) -> tuple[list[Row], str, Row]:
    """What a run prints as JSON lines, what it prints after them, and the file that it writes."""
    done = subprocess.run(
        [sys.executable, *words, "--tiny", "--output", str(folder)],
        cwd=ROOT,
        env=os.environ | {"DIFFMIX_DEVICE": "cpu", **variables},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    lines = done.stdout.splitlines()
    rows = [json.loads(line) for line in lines if line.startswith("{")]
    return rows, done.stdout, json.loads((folder / "cpu-tiny.json").read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[list[Row], str, Row]:
    """A run of all cases, with a worker that loads images, as there are for large ones."""
    folder = tmp_path_factory.mktemp("results")
    return bench(folder, "-c", TRACED, "--budget", "1000", DIFFMIX_WORKERS="1")


def test_every_case_has_its_line(results):
    expected = [(group.title, case) for group in GROUPS for case in group.cases]
    assert [(row["group"], row["case"]) for row in results[0]] == expected


def test_every_case_has_a_result(results):
    """A speed, or an answer to whether bytes are the same; no error, and none skipped."""
    assert [row for row in results[0] if ("per_second" in row) == ("same" in row)] == []


def test_speeds_are_units_by_seconds(results):
    """A tiny run has one round; seconds have four decimals."""
    rows = [row for row in results[0] if "per_second" in row and row["seconds"][0] > 0.01]
    assert len(rows) > 20
    for row in rows:
        assert row["per_second"] == pytest.approx(row["units"] / row["seconds"][0], rel=0.01)


def test_ratios_are_those_of_the_speeds(results):
    speeds = {(row["group"], row["case"]): row.get("per_second") for row in results[0]}
    for row in results[0]:
        for rival, ratio in row.get("times", {}).items():
            expected = row["per_second"] / speeds[row["group"], rival]
            assert ratio == pytest.approx(expected, rel=0.01, abs=0.01)


def test_every_way_of_ours_is_compared_with_another(results):
    rows = [row for row in results[0] if row["case"].startswith("ours") and "per_second" in row]
    alone = {(row["group"], row["case"]) for row in rows if not row["times"]}
    assert alone == {
        ("translation compiled", "ours, batch 2"),
        ("fine-tuning compiled", "ours"),
        ("kernels", "ours, attention's kernel as torch chooses"),
    }


def test_the_same_work_gives_the_same_bytes(results):
    answers = [row for row in results[0] if "same" in row]
    assert [row["same"] for row in answers] == [True] * 9
    assert {row["largest_difference"] for row in answers} == {0}


def test_the_unet_has_its_flops(results):
    rows = {row["case"]: row for row in results[0] if row["group"] == "UNet alone"}
    assert rows["UNet, batch 2, guided"]["tflops"] > 0
    assert rows["UNet, batch 2, guided"]["share_of_product"] > 0


def test_the_file_holds_the_lines_and_the_machine(results):
    rows, _, content = results
    assert content["cases"] == rows
    assert content["machine"]["device"] == "CPU"
    assert set(content["machine"]["libraries"]) >= {"torch", "diffusers", "transformers"}
    assert {"cuda", "clocks_before", "clocks_after", "cores"} <= set(content["machine"])


def test_the_table_has_a_row_for_each_case(results):
    rows, printed, _ = results
    table = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(table) == 2 + len(rows)


@pytest.mark.slow
def test_compiled_cases_run_as_they_do_on_a_gpu(tmp_path):
    variables = {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    words = ("-m", "benchmarks.gpu", "--budget", "3000", "--only", *COMPILED)
    rows, _, _ = bench(tmp_path, *words, **variables)

    expected = [case for group in GROUPS if group.title in COMPILED for case in group.cases]
    assert [row["case"] for row in rows] == expected
    assert all("per_second" in row or row["same"] for row in rows)


def test_a_spent_budget_skips_everything(tmp_path, capsys):
    run(True, Budget(0), None, tmp_path, tmp_path)
    rows = json.loads((tmp_path / "cpu-tiny.json").read_text())["cases"]
    assert len(rows) == sum(len(group.cases) for group in GROUPS)
    assert {row["skipped"] for row in rows} == {"the budget was spent"}
    assert capsys.readouterr().out.count("| skipped: the budget was spent |") == len(rows)


def test_the_full_size_is_refused_on_a_cpu_in_a_line(monkeypatch):
    monkeypatch.setenv("DIFFMIX_DEVICE", "cpu")
    with pytest.raises(SystemExit, match=r"^benchmarks\.gpu: cpu is no GPU, .*; add --tiny .*$"):
        check_device()


def test_a_title_that_no_group_has_is_refused():
    assert [group.title for group in choose(GROUPS, ["kernels"])] == ["kernels"]
    with pytest.raises(BadInput, match=r"--only: no group is called 'kernel'; there are transl"):
        choose(GROUPS, ["kernel"])

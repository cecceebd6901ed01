"""README's numbers are those of the committed metrics."""

import json
import re
from typing import Any

import pytest

from tests.support.closure import ROOT

HEAD = "| arm | top-1 | many / medium / few | gain | Waterbird average | worst group | gain |"
MEASURED = json.loads((ROOT / "metrics/evaluate.json").read_text())
HALF_A_DIGIT = 0.05 + 1e-9  # of one decimal; two decimals are stored


def read_arms() -> dict[str, list[list[float]]]:
    """The numbers of each cell of README's table, by arm."""
    _, found, after = (ROOT / "README.md").read_text().partition(HEAD)
    assert found, "README has no table of arms"
    lines = after.partition("\n\n")[0].splitlines()[2:]  # without the heading's rule

    rows = {}
    for line in lines:
        arm, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[arm] = [numbers(cell) for cell in cells]
    return rows


def numbers(cell: str) -> list[float]:
    """All numbers, also those with a typographic minus."""
    return [float(each) for each in re.findall(r"[+-]?\d+\.\d\b", cell.replace("−", "-"))]


def expected(arm: str) -> list[list[float]]:
    """The table's cells by metrics/evaluate.json."""
    own = MEASURED["arms"][arm]
    waterbird = own["waterbird"]
    return [
        [own["top1"], own["top1_std"]],
        [own["many"], own["medium"], own["few"]],
        gain(arm, "top1"),
        [waterbird["average"]],
        [waterbird["worst"]],
        gain(arm, "waterbird_worst"),
    ]


def gain(arm: str, measure: str) -> list[float]:
    """A gain and the ends of its interval; nothing for the baseline."""
    found: dict[str, Any] = MEASURED["gain"].get(arm, {})
    return [found[measure], *found[f"{measure}_ci"]] if found else []


def test_the_table_has_the_measured_arms_in_order():
    assert list(read_arms()) == list(MEASURED["arms"])


@pytest.mark.parametrize("arm", MEASURED["arms"])
def test_an_arms_numbers_are_the_measured_ones_rounded(arm):
    for printed, measured in zip(read_arms()[arm], expected(arm), strict=True):
        assert printed == pytest.approx(measured, abs=HALF_A_DIGIT)


def test_numbers_are_read_with_their_signs():
    assert numbers("-1.8 [−3.1, +0.4] ± 2.0") == [-1.8, -3.1, 0.4, 2.0]

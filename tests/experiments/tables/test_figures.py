"""The figures of Figure 6 and Table 6: what is read from rows, and that they are drawn."""

from typing import Any

import pytest

from experiments.running.results import Setting, write
from experiments.tables.figures import (
    NAMES,
    draw_gammas,
    draw_strengths,
    draw_table,
    explain_bars,
    read_points,
)
from experiments.tables.recipes import cases, read_preset, read_table

PRESET = read_preset("toybirds")


def rows_of(table: str, column: str) -> list[dict[str, Any]]:
    """The table's rows, as if all had been measured."""
    measured = {column: {"value": 70.0, "interval": [68.0, 72.0]}}
    return [
        {"name": case.name, "paper": case.paper, "measured": measured}
        for case in cases(table, PRESET)
    ]


def test_a_name_of_figure_6_says_shots_method_and_strength():
    points = read_points(rows_of("fig6", "top-1"), NAMES["fig6"], "top-1")
    assert list(points["shots"].unique()) == ["1-shot", "5-shot", "10-shot", "all-shot"]
    assert set(points[points["strength"].isna()]["method"]) == {"baseline", "Diff-Gen", "Real-Gen"}

    lines = points[points["strength"].notna()]
    assert set(lines["method"]) == {"Diff-Mix", "Diff-Aug", "Real-Mix", "Real-Aug"}
    assert set(lines["strength"]) == {"0.1", "0.3", "0.5", "0.7", "0.9", "1.0"}


def test_table_6_has_the_papers_gains_beside_ours():
    points = read_points(rows_of("table6", "gain"), NAMES["table6"], "gain")
    own = points[(points["shots"] == "5-shot") & (points["strength"] == "0.9")]
    assert list(own["gamma"]) == ["1.5", "1.0", "0.5", "0.3", "0.1", "0.0"]
    assert list(own["printed"]) == [10.30, 10.79, 11.01, 11.15, 10.84, 11.06]


@pytest.mark.parametrize(("table", "column"), [("fig6", "top-1"), ("table6", "gain")])
def test_equal_rows_are_equal_bytes(table, column, tmp_path):
    rows = rows_of(table, column)
    paths = [tmp_path / "one.png", tmp_path / "two.png"]
    for path in paths:
        assert draw_table(table, rows, path)

    one, two = (path.read_bytes() for path in paths)
    assert one == two


@pytest.mark.parametrize("missing", ["5-shot s=0.5 gamma=1.5", "5-shot s=0.5 gamma=0.1"])
def test_a_missing_row_leaves_the_others_in_their_order(missing):
    rows = rows_of("table6", "gain")
    for row in rows:
        if row["name"] == missing:
            row["measured"] = None

    points = read_points(rows, NAMES["table6"], "gain").dropna(subset="value")
    figure = draw_gammas(points)

    assert len(points) == len(rows) - 1
    few, whole = figure.axes
    for axes in (few, whole):
        assert [tick.get_text() for tick in axes.get_xticklabels()] == [
            "1.5", "1.0", "0.5", "0.3", "0.1", "0.0",
        ]  # fmt: skip
    assert [axes.get_title() for axes in (few, whole)] == ["5-shot", "all-shot"]


def test_what_is_missing_everywhere_has_no_place(tmp_path):
    rows = rows_of("table6", "gain")
    for row in rows:
        if row["name"].startswith("all-shot") or row["name"].endswith("gamma=0.1"):
            row["measured"] = None

    points = read_points(rows, NAMES["table6"], "gain").dropna(subset="value")
    (only,) = [axes for axes in draw_gammas(points).axes if axes.get_title()]
    assert [tick.get_text() for tick in only.get_xticklabels()] == [
        "1.5",
        "1.0",
        "0.5",
        "0.3",
        "0.0",
    ]


def test_other_tables_and_tables_without_results_are_not_drawn(tmp_path):
    path = tmp_path / "table.png"
    nothing = [row | {"measured": None} for row in rows_of("table6", "gain")]
    assert not draw_table("table5", rows_of("table5", "accuracy"), path)
    assert not draw_table("table6", nothing, path)
    assert not path.exists()


def test_a_bar_is_the_interval_or_else_a_deviation_to_both_sides():
    rows = rows_of("fig6", "top-1")[:3]
    rows[1]["measured"] = {"top-1": {"value": 70.0, "deviation": 1.5}}
    rows[2]["measured"] = {"top-1": {"value": 70.0}}

    points = read_points(rows, NAMES["fig6"], "top-1")
    assert list(points["bar"].dropna()) == ["interval", "deviation"]
    assert list(points["low"][:2]) == [68.0, 68.5]
    assert list(points["high"][:2]) == [72.0, 71.5]

    figure = draw_strengths(points)
    explain_bars(figure, points)
    assert figure.get_supxlabel() == (
        "Bars: 95 % intervals, or one standard deviation between the trials."
    )


def test_replicates_of_a_table_are_drawn_as_the_table_is(tmp_path):
    table = read_table("table6")
    run = {"arm": "diffmix", "replicates": 3, "commits": ["abc"]}
    rows = [run | row for row in rows_of("table6", "gain")]

    write(tmp_path / "table6-of-3.json", table, rows, "toybirds", Setting(3, 2))
    assert (tmp_path / "table6-of-3.png").is_file()

    page = (tmp_path / "table6-of-3.md").read_text()
    assert page.endswith(f"![{table.title}](table6-of-3.png)\n")
    assert "3 replicates of 2 trials" in page

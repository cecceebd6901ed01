"""Tables that the paper draws, or that read better drawn: Figure 6 and Table 6."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Record = dict[str, Any]  # a row as it is published

# Okabe and Ito's colours, which hold in colour blindness; marks differ, too.
LINES = [("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D")]
LEVELS = [("#000000", "-"), ("#555555", "--"), ("#999999", ":")]  # of rows without a strength
STYLE: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
NAMES = {  # what a row's name says
    "fig6": re.compile(r"(?P<shots>\S+-shot) (?P<method>.+?)(?: s=(?P<strength>[\d.]+))?"),
    "table6": re.compile(r"(?P<shots>\S+-shot) s=(?P<strength>[\d.]+) gamma=(?P<gamma>[\d.]+)"),
}
SHOWN = {"fig6": "top-1", "table6": "gain"}  # the column that is drawn
BARS = {"interval": "95 % intervals", "deviation": "one standard deviation between the trials"}


def draw_table(name: str, rows: list[Record], path: Path) -> bool:
    """Draw the table into a PNG file, where it is one that is drawn and has been run."""
    measured = [row for row in rows if row["measured"]]
    if name not in NAMES or not measured:
        return False

    points = read_points(rows, NAMES[name], SHOWN[name]).dropna(subset="value")
    with rc_context(STYLE):
        figure = draw_strengths(points) if name == "fig6" else draw_gammas(points)
        explain_bars(figure, points)
        figure.savefig(path, metadata={"Software": None})
    return True


def read_points(rows: list[Record], pattern: re.Pattern[str], column: str) -> pd.DataFrame:
    """What the rows' names say, with `value`, `low`, `high` and the paper's `printed` number.

    `bar` is what lies between low and high, one of BARS, or None where the row has neither. What
    the names say is categorical, in the table's order also where rows are missing.
    """
    points = []
    for row in rows:
        match = pattern.fullmatch(row["name"])
        assert match, row["name"]
        measured = row["measured"][column] if row["measured"] else {}
        points.append(
            match.groupdict()
            | {"value": measured.get("value"), "printed": row["paper"].get(column)}
            | read_bar(measured)
        )
    frame = pd.DataFrame(points)
    for said in pattern.groupindex:
        frame[said] = pd.Categorical(frame[said], frame[said].dropna().unique())
    return frame


def read_bar(measured: dict[str, Any]) -> dict[str, Any]:
    """A value's interval; where it has none, one deviation to both sides."""
    if "interval" in measured:
        low, high = measured["interval"]
        return {"bar": "interval", "low": low, "high": high}
    if "deviation" in measured:
        value, deviation = measured["value"], measured["deviation"]
        return {"bar": "deviation", "low": value - deviation, "high": value + deviation}
    return {"bar": None, "low": None, "high": None}


def measured_in(column: pd.Series) -> list[str]:
    """Those of a column's categories that occur, in the table's order."""
    return list(column.cat.remove_unused_categories().cat.categories)


def draw_strengths(points: pd.DataFrame) -> Figure:
    """Figure 6: accuracy against strength by method, a panel for each number of shots.

    What has no strength, the baseline and images from noise, is a level line.
    """
    figure, panels = make_panels(measured_in(points["shots"]), "strength s", "top-1 in percent")
    plain = points["strength"].isna()
    levels = dict(zip(measured_in(points[plain]["method"]), LEVELS, strict=False))
    lines = dict(zip(measured_in(points[~plain]["method"]), LINES, strict=False))

    for shots, part in points.groupby("shots", observed=True):
        axes = panels[str(shots)]
        for method, (colour, dashes) in levels.items():
            for value in part[part["method"] == method]["value"]:
                axes.axhline(value, color=colour, ls=dashes, lw=1.2, label=method)

        for method, style in lines.items():
            own = part[part["method"] == method].astype({"strength": float})
            draw_line(axes, own.assign(x=own["strength"]).sort_values("x"), str(method), style)

    share_legend(figure, panels.values())
    return figure


def draw_gammas(points: pd.DataFrame) -> Figure:
    """Table 6: gain against γ by strength, a panel for each number of shots, beside the paper's."""
    figure, panels = make_panels(measured_in(points["shots"]), "γ", "gain in points")
    gammas = measured_in(points["gamma"])
    lines = dict(zip(measured_in(points["strength"]), LINES, strict=False))

    for shots, part in points.groupby("shots", observed=True):
        axes = panels[str(shots)]
        axes.axhline(0, color="#000000", lw=0.8)
        axes.set_xticks(range(len(gammas)), gammas)

        for strength, style in lines.items():
            own = part[part["strength"] == strength]
            own = own.assign(x=[gammas.index(gamma) for gamma in own["gamma"]]).sort_values("x")
            draw_line(axes, own, f"s = {strength}", style)

            colour, mark = style
            axes.plot(
                own["x"], own["printed"], color=colour, marker=mark, ms=5, mfc="white",
                ls="--", lw=1, label=f"s = {strength}, the paper's",
            )  # fmt: skip

    share_legend(figure, panels.values())
    return figure


def make_panels(names: list[str], across: str, up: str) -> tuple[Figure, dict[str, Axes]]:
    """A figure with a panel for each name, two side by side."""
    height = -(-len(names) // 2)
    figure = Figure(figsize=(9, 3.1 * height + 0.6), layout="constrained", dpi=150)
    axes = figure.subplots(height, 2, squeeze=False).flatten()

    panels = dict(zip(names, axes, strict=False))
    for name, panel in panels.items():
        panel.set(title=name, xlabel=across, ylabel=up)
        panel.grid(alpha=0.2)
    for empty in axes[len(names) :]:
        empty.set_axis_off()
    return figure, panels


def draw_line(axes: Axes, points: pd.DataFrame, label: str, style: tuple[str, str]) -> None:
    """The values in order of x, with their bars."""
    colour, mark = style
    barred = points.dropna(subset="bar")
    axes.vlines(barred["x"], barred["low"], barred["high"], color=colour, lw=1.2, alpha=0.5)
    axes.plot(points["x"], points["value"], color=colour, marker=mark, ms=5, lw=1.6, label=label)


def explain_bars(figure: Figure, points: pd.DataFrame) -> None:
    """Below the panels, what the bars are; where rows were run otherwise there are both kinds."""
    kinds = [BARS[kind] for kind in BARS if kind in set(points["bar"])]
    if kinds:
        figure.supxlabel(f"Bars: {', or '.join(kinds)}.", fontsize=8)


def share_legend(figure: Figure, panels: Iterable[Axes]) -> None:
    """One legend above all panels."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)

    columns = -(-len(entries) // 2)
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper center", ncols=columns,
        frameon=False,
    )  # fmt: skip

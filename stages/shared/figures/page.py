"""The report's page: its template filled in, and how it writes numbers."""

from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.shared.figures import verdict
from stages.shared.figures.mosaics import data_uri, figure_uri, times
from stages.shared.figures.samples import label_text, towards
from stages.shared.figures.verdict import tell_gain, tell_losers, tell_places

MEASURES = {  # of an arm's gain in metrics/evaluate.json
    "top1": "top-1",
    "few": "few-shot classes",
    "waterbird_worst": "worst Waterbird group",
}
DIGITS = {"judge": 1, "inception": 1}  # of measures whose values exceed 1; others have 3


class FidelityColumn(NamedTuple):
    """A column of the fidelity table; `values` by strength, and for "all"."""

    title: str
    unit: str
    values: dict[str, float | None]
    digits: int


class Gain(NamedTuple):
    """A line of the gains: a difference to the baseline, in points."""

    arm: str
    value: float
    interval: list[float] | None


class Axis(NamedTuple):
    """What an axis of gains spans, in points; zero is always on it."""

    low: float
    high: float

    def place(self, value: float) -> float:
        """Where the value lies, in percent of the axis."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def render(template: Path, context: dict[str, Any]) -> str:
    """Fill in the page; the names of classes and arms are escaped."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    filters = (
        data_uri, direction, figure_uri, label_text, listed, number, signed, strengths_shown,
        tell_gain, tell_losers, tell_places, times, towards,
    )  # fmt: skip
    environment.filters |= {function.__name__: function for function in filters}

    return environment.get_template(template.name).render(context)


def list_gains(gain: dict[str, Any]) -> dict[str, list[Gain]]:
    """The arms' gains by measure: top-1, few-shot classes and the worst Waterbird group."""
    found = {}
    for name, title in MEASURES.items():
        gains = [
            Gain(arm, change[name], change.get(f"{name}_ci"))
            for arm, change in gain.items()
            if name in change
        ]
        if gains:
            found[title] = gains

    return found


def span_axis(gains: dict[str, list[Gain]]) -> Axis:
    """An axis on which all gains lie with their intervals."""
    ends = [0.0]
    for each in (one for measure in gains.values() for one in measure):
        ends += [each.value, *(each.interval or [])]

    margin = 0.04 * (max(ends) - min(ends)) or 1.0
    return Axis(min(ends) - margin, max(ends) + margin)


def fidelity(assess: dict[str, Any]) -> list[FidelityColumn]:
    """The measures of metrics/assess.json that could be taken.

    Photographs without masks, say, have no background columns.
    """
    faithfulness = assess.get("faithfulness", {})
    background = assess.get("background", {})
    diversity = assess.get("diversity", {})
    frechet = assess.get("frechet", {})

    judged_by = faithfulness.get("measure")
    compared_by = frechet.get("measure")
    unit = "% recognised as the target" if judged_by == "judge" else judged_by
    columns = [
        ("faithfulness", unit, faithfulness, DIGITS.get(judged_by, 3)),
        ("background kept", "% nearer to its own than to another's", background.get("kept"), 1),
        ("background error", "mean difference, of 255", background.get("error"), 1),
        ("diversity", f"{diversity.get('measure')} distance within a class", diversity, 3),
        ("Fréchet distance", f"{compared_by}, to real images", frechet, DIGITS.get(compared_by, 3)),
    ]

    taken = []
    for title, unit, part, digits in columns:
        if part and {"strength", "all"} & set(part):
            values = part.get("strength", {}) | {"all": part.get("all")}
            taken.append(FidelityColumn(title, unit, values, digits))

    return taken


def strengths_shown(columns: list[FidelityColumn]) -> list[str]:
    """The strengths, ascending, and "all"."""
    strengths = {strength for column in columns for strength in column.values} - {"all"}
    return [*sorted(strengths, key=float), "all"]


def direction(interval: list[float] | None) -> str:
    """better or worse, or nothing where the interval leaves it open."""
    if not interval:
        return ""
    if interval[0] > 0:
        return "better"
    return "worse" if interval[1] < 0 else ""


def number(value: float | None, digits: int = 2) -> str:
    """The value, or a dash where there is none."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """The value as in the verdict, or a dash where there is none."""
    return "–" if value is None else verdict.signed(value, digits)


def listed(value: float | list[float]) -> str:
    """One number, or several."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{single:g}" for single in values)

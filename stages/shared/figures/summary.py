"""A run in a screenful of Markdown, for pull requests: metrics/summary.md."""

from typing import Any

from stages.shared.figures.page import number, signed
from stages.shared.figures.verdict import Verdict, tell_gain, tell_losers, tell_places

HEAD = ["arm", "top-1", "gain", "many / medium / few", "Waterbird average", "worst group", "gain"]


def summarise(
    title: str,
    method: str,
    verdict: Verdict | None,
    arms: dict[str, Any],
    gain: dict[str, Any],
) -> str:
    """Title, verdict, a table of the arms and a picture of the images."""
    sections = [f"## {title}"]
    if verdict:
        said = [tell_gain(verdict, method), tell_places(verdict.places), tell_losers(verdict)]
        sections.append(" ".join(filter(None, said)))

    rows = [HEAD, ["---"] * len(HEAD)]
    rows += [table_row(arm, result, gain.get(arm, {})) for arm, result in arms.items()]
    sections.append("\n".join(f"| {' | '.join(row)} |" for row in rows))

    sections.append("![References and their translations](samples.png)")
    return "\n\n".join(sections) + "\n"


def table_row(arm: str, result: dict[str, Any], change: dict[str, Any]) -> list[str]:
    """An arm's line; cells are empty where there is nothing to measure."""
    shots = [number(result[name], 1) for name in ("many", "medium", "few") if name in result]
    waterbird = result.get("waterbird", {})
    return [
        arm.replace("|", "\\|"),
        number(result["top1"], 1),
        with_interval(change, "top1"),
        " / ".join(shots),
        number(waterbird["average"], 1) if waterbird else "",
        number(waterbird["worst"], 1) if waterbird else "",
        with_interval(change, "waterbird_worst"),
    ]


def with_interval(change: dict[str, Any], measure: str) -> str:
    """A gain with its interval; nothing where there is none."""
    if measure not in change:
        return ""

    text = signed(change[measure], 1)
    interval = change.get(f"{measure}_ci")
    if interval:
        text += f" [{signed(interval[0], 1)}, {signed(interval[1], 1)}]"
    return text

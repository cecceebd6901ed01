"""All comparisons of the claims in one figure: effects with their intervals."""

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.tables.figures import STYLE
from experiments.tables.recipes import Tree

# Okabe and Ito's colours, which hold in colour blindness; each verdict has a mark of its own, too.
MARKS = {
    "holds": ("#0072B2", "o"),
    "equivalent": ("#009E73", "s"),
    "fails": ("#D55E00", "X"),
    "undecided": ("#8A8A8A", "D"),
}
LINE = 0.24  # inches


def draw_claims(content: Tree, path: Path) -> None:
    """Write the figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        compose(content).savefig(path, metadata={"Software": None})


def compose(content: Tree) -> Figure:
    """The figure: a line for each part, in the order of the claims."""
    lines = [(key, part) for key, claim in content["claims"].items() for part in claim["parts"]]
    labels = [label(key, part) for key, part in lines]
    figure = Figure(figsize=(9, LINE * len(lines) + 1.1), layout="constrained", dpi=150)
    axes = figure.subplots()

    axes.axvspan(-content["margin"], content["margin"], color="#000000", alpha=0.07, lw=0)
    axes.axvline(0, color="#000000", lw=0.8)
    for line, (_, part) in enumerate(lines):
        draw_part(axes, part, line)
    name_verdicts(axes, content["claims"])

    axes.set_yticks(range(len(lines)), labels)
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        f"difference in points, with 95 % intervals over {content['replicates']} replicates; "
        f"±{content['margin']:g} is grey.\nAt the right the claims' verdicts, by Holm's rule."
    )
    axes.legend(
        handles=[handle(axes, verdict) for verdict in MARKS],
        ncols=len(MARKS), loc="lower center", bbox_to_anchor=(0.4, 1.0), frameon=False,
    )  # fmt: skip

    return figure


def label(key: str, part: Tree) -> str:
    """A part's line, which begins with its claim's key."""
    allowed = f" (may lose {part['margin']:g})" if part["kind"] == "not-worse" else ""
    return f"{key}:  {part['label']}{allowed}"


def name_verdicts(axes: Axes, claims: Tree) -> None:
    """Each claim's verdict beside its parts, and a line under them."""
    last = 0
    family = None
    for claim in claims.values():
        if last:
            heavy = claim["family"] != family  # what is beyond the paper stands apart
            axes.axhline(last - 0.5, color="#000000", alpha=0.8 if heavy else 0.15, lw=0.6)
        family = claim["family"]

        middle = last + (len(claim["parts"]) - 1) / 2
        colour, _ = MARKS.get(claim["verdict"], ("#000000", ""))
        axes.annotate(
            claim["verdict"], (1.01, middle), xycoords=("axes fraction", "data"),
            color=colour, fontweight="bold", va="center",
        )  # fmt: skip
        last += len(claim["parts"])


def draw_part(axes: Axes, part: Tree, line: int) -> None:
    """The part's mean and interval; nothing where it was not measured."""
    if "difference" not in part:
        return

    colour, mark = MARKS[part["verdict"]]
    low, high = part["difference"]["interval"]
    axes.plot([low, high], [line, line], color=colour, lw=1.8, solid_capstyle="butt")
    axes.plot(part["difference"]["value"], line, mark, color=colour, ms=5.5, mec="white", mew=0.6)


def handle(axes: Axes, verdict: str) -> Any:
    """The verdict's entry in the legend."""
    colour, mark = MARKS[verdict]
    return axes.plot([], [], mark, color=colour, label=verdict, ls="-")[0]

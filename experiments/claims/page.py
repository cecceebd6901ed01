"""The claims' verdicts and what they rest on: metrics/claims.json, and claims.md for people."""

from collections import Counter
from pathlib import Path

from experiments.claims.evidence import Gain
from experiments.markdown import markdown_table
from experiments.running.plans import Spent
from experiments.tables.recipes import Tree
from stages.shared.files import write_json

LEGEND = """
A row is written `<table>/<row>`, after the files of `experiments/tables/`. The measures: `top1` is
the accuracy on the test images; `many`, `medium` and `few` are the mean accuracies of the classes
with many, medium and few training images; `waterbird_*` are accuracies on the Waterbird images: of
a species group on a background, their average and the worst of them; `images.*` are means over the
synthetic images, of a column of `data/assess/images.csv`. `few, beyond many` is the difference in
`few` less the difference in `many`.
"""


def render(content: Tree, preset: str, trials: int, cost: Spent) -> str:
    """The verdicts, and under them what they rest on, as Markdown."""
    verdicts = [["", "claim", "source", "verdict"], ["---"] * 4]
    parts = [["", "compared", "measure", "difference (points)", "verdict"], ["---"] * 5]
    for key, claim in content["claims"].items():
        verdicts.append([key, claim["text"], claim["source"], claim["verdict"]])
        for part in claim["parts"]:
            difference = show(part["difference"])
            parts.append([key, *describe(part), difference, part["verdict"]])

    sections = [
        f"# {content['title']}",
        explain_claims(preset, trials),
        explain_verdicts(content["margin"]),
        *filter(None, [content["note"]]),
        f"{count_verdicts(content)} {name_commits(content)} {cost}.",
        markdown_table(verdicts),
        "## What each verdict rests on",
        " ".join(LEGEND.split()),
        markdown_table(parts),
    ]
    return "\n\n".join(sections) + "\n"


def explain_claims(preset: str, trials: int) -> str:
    """What is claimed, and what it is tested on."""
    times = "once" if trials == 1 else f"{trials} times"
    text = f"""
        Each claim is the paper's, or goes beyond it, as its source says. It is tested by
        comparisons between rows of the paper's tables, which are run on preset {preset}; each row's
        classifier is trained {times}.
    """
    return " ".join(text.split())


def explain_verdicts(margin: float) -> str:
    """How a verdict is reached; `margin`: the points that `not worse` allows."""
    text = f"""
        A comparison is a difference in points, with its [95 % interval] of a paired bootstrap over
        trials and test images. It holds where the interval lies above 0 (of `not worse`: above
        -{margin:g}), fails where it lies below, and is undecided between; it is missing where an
        experiment has not been run. A claim holds where all of its comparisons hold, fails where
        one fails, and is missing or undecided otherwise. A comparison that the dataset has no
        images for is not measurable, and does not count.
    """
    return " ".join(text.split())


def count_verdicts(content: Tree) -> str:
    """How many claims have which verdict, in a sentence."""
    counts = Counter(claim["verdict"] for claim in content["claims"].values())
    total = len(content["claims"])
    listed = ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
    return f"Verdicts on {total} claim{'s' * (total != 1)}: {listed}."


def name_commits(content: Tree) -> str:
    """The commit whose code made the findings; several where a change has left some standing."""
    parts = [part for claim in content["claims"].values() for part in claim["parts"]]
    counts = Counter(part["commit"] for part in parts if part["commit"])
    if not counts:
        return "Nothing has been compared yet."
    if len(counts) == 1:
        return f"Made by the code of commit {next(iter(counts))}."

    total = counts.total()
    shares = [f"{commit} ({count} of {total} comparisons)" for commit, count in counts.items()]
    return f"Made by the code of commits {', '.join(shares)}."


def describe(part: Tree) -> list[str]:
    """What is compared, and by which measure."""
    if "row" in part:
        return [f"{part['row']}: kept > dropped, at equal strength", f"images.{part['column']}"]

    sign = "not worse than" if part["kind"] == "not-worse" else ">"
    measure = part["measure"]
    if part["beyond"]:
        measure += f", beyond {name_several(part['beyond'])}"

    return [f"{name_several(part['better'])} {sign} {name_several(part['worse'])}", measure]


def name_several(names: list[str]) -> str:
    """One row or measure by its name, several as their mean."""
    return names[0] if len(names) == 1 else f"the mean of {', '.join(names)}"


def show(difference: Gain | None) -> str:
    """A difference with its interval; empty where there is none."""
    return "" if difference is None else "{:+g} [{:g}, {:g}]".format(*difference)


def write(content: Tree, path: Path, preset: str, trials: int, cost: Spent) -> None:
    """Write the json file, and the page beside it."""
    write_json(path, content | {"preset": preset, "trials": trials} | cost._asdict())
    path.with_suffix(".md").write_text(render(content, preset, trials, cost))

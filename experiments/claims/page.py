"""The claims' verdicts, and what they rest on, for people: metrics/claims.json and metrics/claims.md."""

from pathlib import Path

from experiments.claims.evidence import Gain
from experiments.markdown import markdown_table
from experiments.running.plans import Spent
from experiments.tables.recipes import Tree
from stages.shared.files import write_json


def render(content: Tree, preset: str, trials: int, cost: Spent) -> str:
    """The verdicts, and under them what they rest on, as Markdown."""
    verdicts = [["", "claim", "source", "verdict"], ["---"] * 4]
    parts = [["", "compared", "measure", "difference (points)", "verdict"], ["---"] * 5]
    for key, claim in content["claims"].items():
        verdicts.append([key, claim["text"], claim["source"], claim["verdict"]])
        parts += [
            [key, *describe(part), show(part["difference"]), part["verdict"]]
            for part in claim["parts"]
        ]
    note = f"""Preset {preset}, {trials} trial{"s" * (trials != 1)}; [95 % interval] of a paired bootstrap over trials
        and test images. A part holds where its interval lies above 0 (of `not worse`: above -{content["margin"]:g}),
        fails where it lies below, and is undecided between; a claim holds where all of its parts hold, and fails where
        one fails. What the dataset has no images for is not measurable, and does not count. {cost}."""
    tables = [markdown_table(lines) for lines in (verdicts, parts)]
    return (
        "\n\n".join([f"# {content['title']}", tables[0], " ".join(note.split()), tables[1]]) + "\n"
    )


def describe(part: Tree) -> list[str]:
    """What is compared, and by which measure."""
    if "row" in part:
        return [f"{part['row']}: kept > dropped, at equal strength", f"images.{part['column']}"]
    sign = "not worse than" if part["kind"] == "not-worse" else ">"
    beyond = f", beyond the mean of {', '.join(part['beyond'])}" if part["beyond"] else ""
    return [
        f"{name_rows(part['better'])} {sign} {name_rows(part['worse'])}",
        part["measure"] + beyond,
    ]


def name_rows(rows: list[str]) -> str:
    return rows[0] if len(rows) == 1 else f"the mean of {', '.join(rows)}"


def show(difference: Gain | None) -> str:
    return "" if difference is None else "{:+g} [{:g}, {:g}]".format(*difference)


def write(content: Tree, path: Path, preset: str, trials: int, cost: Spent) -> None:
    write_json(path, content | {"preset": preset, "trials": trials} | cost._asdict())
    path.with_suffix(".md").write_text(render(content, preset, trials, cost))

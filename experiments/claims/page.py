"""The verdicts for people: metrics/claims.md, beside claims.json and the figure claims.png."""

from collections import Counter
from pathlib import Path

from experiments.claims.figure import draw_claims
from experiments.claims.verdicts import FAMILIES
from experiments.intervals import FLIPS
from experiments.markdown import markdown_table
from experiments.running.plans import Spent
from experiments.tables.recipes import Tree
from experiments.tables.replicates import TRIALS
from stages.shared.files import write_json

TESTED = ("holds", "fails", "equivalent")  # the verdicts that have a p
FLIP_LEVEL = 0.05
FEWEST_FLIPPED = 6  # replicates: of fewer no p by flips can be so small
LEGEND = """
A row is written `<table>/<row>`, after the files of `experiments/tables/`. The measures: `top1` is
the accuracy on the test images; `many`, `medium` and `few` are the mean accuracies of the classes
with many, medium and few training images; `waterbird_*` and `landbird_*` are accuracies on the
Waterbird images: of a species group on a background, their average and the worst of them;
`faithful` and `background_kept` are percentages of the synthetic images; `filter_gain` is how much
more of the kept images than of the dropped ones of their strength the judge recognises. `few,
beyond many` is the difference in `few` less the difference in `many`. After an undecided part
stands how many replicates would decide the comparison, though not the claim, were mean and
deviation to stay as they are: they have at least an even chance where it then holds or fails, and
may have less where it is equivalent.
"""


def write(content: Tree, path: Path, preset: str, cost: Spent) -> None:
    """Write the json file, and the page and the figure beside it."""
    write_json(path, content | {"preset": preset, "trials": TRIALS} | cost._asdict())
    draw_claims(content, path.with_suffix(".png"))
    path.with_suffix(".md").write_text(render(content, preset, path.stem, cost))


def render(content: Tree, preset: str, stem: str, cost: Spent) -> str:
    """The verdicts, and under them what they rest on, as Markdown."""
    sections = [
        f"# {content['title']}, on preset {preset}",
        f"{count_verdicts(content)} {name_commits(content)} {cost}.",
        f"![Every comparison with its interval]({stem}.png)",
        markdown_table(list_claims(content)),
        "## How they were reached",
        explain_replicates(content, preset),
        explain_verdicts(content),
        *filter(None, [compare_with_flips(content)]),
        *filter(None, [" ".join(content["note"].split())]),
        "## What each verdict rests on",
        " ".join(LEGEND.split()),
        markdown_table(list_parts(content)),
    ]
    return "\n\n".join(sections) + "\n"


def list_claims(content: Tree) -> list[list[str]]:
    """A line for each claim: its words, what is tested, its verdict."""
    head = ["", "claim", "the paper's words", *(f"p: {each}" for each in TESTED), "verdict"]
    lines = [head, ["---"] * len(head)]
    for key, claim in content["claims"].items():
        words = f"{claim['paper']} ({claim['source']})" if claim["paper"] else claim["source"]
        lines.append([key, claim["text"], words, *tell_p(claim), tell_claim(claim)])
    return lines


def tell_claim(claim: Tree) -> str:
    """The verdict, and how much of the claim it rests on."""
    text = f"**{claim['verdict']}**"
    if claim["unmeasured"] and claim["verdict"] not in ("missing", "not measurable"):
        count = len(claim["parts"])
        text += f" ({count - claim['unmeasured']} of {count} comparisons measured)"
    return text


def tell_p(claim: Tree) -> list[str]:
    """The p of each verdict that the claim could have; empty where a replicate is lacking."""
    p = claim.get("p") or {}
    return [f"{p[each]:.2g}" if each in p else "" for each in TESTED]


def list_parts(content: Tree) -> list[list[str]]:
    """A line for each part: what is compared, the difference, its verdict."""
    lines = [["", "compared", "measure", "difference (points)", "verdict"], ["---"] * 5]
    for key, claim in content["claims"].items():
        for part in claim["parts"]:
            lines.append([key, compared(part), measured(part), show(part), tell(part)])
    return lines


def explain_replicates(content: Tree, preset: str) -> str:
    """What the numbers are made of, and what their intervals cover."""
    text = f"""
        Each claim is tested by comparisons between rows of the paper's tables, run on preset
        {preset} in {content["replicates"]} replicates. A replicate is the whole pipeline under a
        seed of its own, which redraws training rows, fine-tuning, plan, images and {TRIALS}
        classifiers an arm; rows of one replicate share the seed and are paired. A comparison is the
        mean difference in points, with its [95 % interval] of Student's t over the replicates. The
        intervals hold for this world, its base model and its test images, which all replicates
        share.
    """
    if content["replicates"] != content["replicates_asked"]:
        text += f" The rules ask for {content['replicates_asked']} replicates."
    return " ".join(text.split())


def explain_verdicts(content: Tree) -> str:
    """How a verdict is reached."""
    margin = content["margin"]
    text = f"""
        A comparison holds where its interval lies above 0 (of `not worse`: above
        -{margin:g}, or what it names), fails where it lies below, is equivalent where it holds 0
        and lies inside of ±{margin:g}, and is undecided otherwise. A claim holds where all of its
        comparisons do, which the largest of their p says, and fails where one does: the smallest p
        times their number. Whether claims hold or fail is decided by Holm's procedure, at
        {content["level"]:g} over the claims of a family: the paper's, and those beyond it. What is
        left is equivalent where each comparison holds or is equivalent, at {content["level"]:g}
        divided by the claims. So a claim may be undecided or equivalent whose comparison holds or
        fails by itself. What lacks a replicate is missing, whatever is known of it; a comparison
        that the dataset cannot measure does not count.
    """
    return " ".join(text.split())


def compare_with_flips(content: Tree) -> str:
    """Which comparisons stand without Student's assumption; nothing where none is decided."""
    decided = [
        (f"{key}'s {compared(part)}, {measured(part)}", part)
        for key, claim in content["claims"].items()
        for part in claim["parts"]
        if part["verdict"] in ("holds", "fails")
    ]
    if not decided or content["replicates"] < FEWEST_FLIPPED:
        return ""

    fallen = [name for name, part in decided if part["p_sign_flip"] > FLIP_LEVEL]
    aside = f" (not for {'; '.join(fallen)})" if fallen else ""
    text = f"""
        Student's t takes normal deviations for granted. A test that does not, by all flips of the
        replicates' signs, has a p of at most {FLIP_LEVEL:g} for {len(decided) - len(fallen)} of the
        {len(decided)} comparisons that hold or fail{aside}. In {content["replicates"]} replicates
        its p cannot be below {least_p(content["replicates"]):.2g}{compare_with_holm(content)}.
    """
    return " ".join(text.split())


def compare_with_holm(content: Tree) -> str:
    """What follows where no p by flips passes the first step of Holm's procedure, else nothing."""
    sizes = Counter(
        claim["family"]
        for claim in content["claims"].values()
        if claim["verdict"] != "not measurable"
    )
    if least_p(content["replicates"]) <= content["level"] / max(sizes.values()):
        return ""

    return (
        ", which is too much for the first steps of Holm's procedure: a claim that holds takes "
        "Student's word for it"
    )


def least_p(replicates: int) -> float:
    """The smallest p of the test by flips, which looks at all of them or at FLIPS random ones."""
    return 2 / min(2**replicates, FLIPS + 1)


def count_verdicts(content: Tree) -> str:
    """How many claims of each family have which verdict, in a sentence."""
    sentences = []
    for family in FAMILIES:
        claims = [each for each in content["claims"].values() if each["family"] == family]
        counts = Counter(claim["verdict"] for claim in claims)
        listed = ", ".join(f"{verdict} {count}" for verdict, count in counts.most_common())
        if claims:
            sentences.append(f"{family} ({len(claims)}): {listed}.")
    return " ".join(sentences)


def name_commits(content: Tree) -> str:
    """The commits whose code has made what is compared."""
    parts = [part for claim in content["claims"].values() for part in claim["parts"]]
    commits = sorted({commit for part in parts for commit in part["commits"]})
    if not commits:
        return "Nothing has been compared yet."

    plural = "s" if len(commits) > 1 else ""
    return f"Made by the code of commit{plural} {', '.join(commits)}."


def compared(part: Tree) -> str:
    """The rows of a part."""
    better = name_several(part["better"])
    if not part["worse"]:
        return better

    sign = "not worse than" if part["kind"] == "not-worse" else ">"
    return f"{better} {sign} {name_several(part['worse'])}"


def measured(part: Tree) -> str:
    """The measure of a part, with a margin of its own where it has one."""
    text = name_several(part["measure"])
    if part["beyond"]:
        text += f", beyond {name_several(part['beyond'])}"
    if part["kind"] == "not-worse":
        text += f" (within {part['margin']:g})"
    return text


def name_several(names: list[str]) -> str:
    """One row or measure by its name, several as their mean."""
    return names[0] if len(names) == 1 else f"the mean of {', '.join(names)}"


def show(part: Tree) -> str:
    """A difference with its interval; empty where there is none."""
    if "difference" not in part:
        return ""

    found = part["difference"]
    return "{:+.2f} [{:.2f}, {:.2f}]".format(found["value"], *found["interval"])


def tell(part: Tree) -> str:
    """The verdict; what an undecided part would need, and what a missing one has."""
    verdict = part["verdict"]
    if verdict == "undecided":
        return f"undecided ({part['needed'] or 'more than 1000'})"
    if verdict == "missing":
        return f"missing ({part['replicates']} run)"
    return verdict

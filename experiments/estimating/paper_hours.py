"""What each table of the paper takes, in hours of the paper's GPU: the table in docs/paper.md.

    python -m experiments.estimating.paper_hours        prints it

From what the paper says of an RTX 3090 (Sec. 7.5, Table 11), and for the classifiers from an
assumed speed. Rows that share a fine-tuned model, images or an arm share them here, as they do by
DVC's run cache.
"""

import json
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torchvision.models import ResNet50_Weights, ViT_B_16_Weights

from experiments.estimating.counts import list_published
from experiments.markdown import markdown_table
from experiments.tables.recipes import Tree, cases, read_preset, read_recipe, read_table
from stages import download, plan, subsample
from stages.shared.diffusion.sampling import reverse_steps
from stages.shared.methods import METHODS, Method
from stages.shared.params import pick
from stages.shared.schemas import method

FINE_TUNING = 4 * 3 / 35_000  # GPU-hours a step: three hours on four GPUs for CUB
STEPS = 25  # of Table 11

# of training a classifier, operations a second: assumed, of 35.6e12 that TF32 could reach
SPEED = 15e12
TRAINED = 2 * 3  # operations of a training step for each multiplication of a forward pass
FORWARD = {  # multiplications of an image, and the side that torchvision says them for
    "resnet50": (1e9 * ResNet50_Weights.IMAGENET1K_V1.meta["_ops"], 224),
    "vit_b_16": (1e9 * ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.meta["_ops"], 384),
}

FIVE = ("cub", "aircraft", "flowers", "dogs", "cars")
TABLES = (  # the paper's name, the recipe, the presets
    ("Fig. 6", "fig6", ("cub-5-shot",)),
    ("Table 1, ResNet50", "table1", tuple(f"{dataset}-resnet50" for dataset in FIVE)),
    ("Table 1, ViT-B/16", "table1", tuple(f"{dataset}-vit" for dataset in FIVE)),
    ("Table 2", "table2", ("cub-longtail-100",)),
    ("Table 3", "table3", ("flowers-longtail-100",)),
    ("Table 4", "table4", ("waterbird",)),
    ("Table 5", "table5", ("cub-5-shot",)),
    ("Table 6", "table6", ("cub-5-shot",)),
    ("Fig. 7a", "fig7a", ("cub-all-shot",)),
    ("Fig. 7b", "fig7b", ("cub-all-shot",)),
    ("Fig. 10", "fig10", ("pascal",)),
)
HEAD = (
    "", "command", "experiments", "fine-tuned", "images", "hours: fine-tuning", "synthesis",
    "classifiers", "all", "on 4 GPUs",
)  # fmt: skip


class Part(NamedTuple):
    """What an experiment has to do, and others may share."""

    kind: str  # experiment, fine-tuning, synthesis or classifier
    hours: float = 0.0
    images: int = 0


def mean_steps(chosen: Method, steps: int) -> float:
    strengths = chosen.strength if chosen.mode != "gen" else (1.0,)
    return float(np.mean([reverse_steps(steps, strength) for strength in strengths]))


@cache
def synthesis_rate() -> tuple[float, float]:
    """Seconds a step and seconds beside the steps of an image.

    They are the line through Table 11's four methods.
    """
    rows = [row for row in read_recipe("table11")["rows"] if "paper" in row]
    steps = [mean_steps(METHODS[row["method"]], STEPS) for row in rows]
    slope, rest = np.polyfit(steps, [3600 / row["paper"] for row in rows], 1)
    return float(slope), float(rest)


def training_hours(params: Tree, rows: int) -> float:
    """Of one arm's trials."""
    options = params["train"]
    forward, side = FORWARD[options["architecture"]]
    images = rows * options["epochs"] * options["trials"]
    return images * TRAINED * forward * (options["resolution"] / side) ** 2 / SPEED / 3600


def images_of(params: Tree) -> tuple[int, int]:
    """Training images of the subset, and synthetic ones."""
    choice = pick(subsample.Params, params).subset
    real = list_published(pick(download.Params, params).data)
    counts = subsample.wanted_sizes(real.per_class, choice)

    multiplier = params["synth"]["multiplier"]
    made = plan.target_sizes(counts, multiplier, reverse=choice.mode == "long-tail")
    return int(counts.sum()), int(made.sum())


def fingerprint(*parts: Any) -> str:
    """What two parts have in common that are one and the same work."""
    return json.dumps(parts, sort_keys=True)


def parts_of(params: Tree) -> dict[str, Part]:
    """What one experiment has to do, by fingerprint."""
    chosen = method.resolve(pick(method.Params, params))
    rows, images = images_of(params)
    synth = params["synth"]
    found = {fingerprint(params): Part("experiment")}

    data = [params["data"], params["subset"], params["seed"]]
    learning = params["finetune"] if chosen.strategy != "none" else None
    base = fingerprint(data, params["base"], chosen.strategy, learning)
    if learning is not None:
        found[base] = Part("fine-tuning", FINE_TUNING * learning["steps"])

    drawn = {name: synth[name] for name in synth if name not in ("gamma", "strength")}
    made = fingerprint(base, chosen.mode, chosen.strength, drawn)
    slope, rest = synthesis_rate()
    seconds = slope * mean_steps(chosen, synth["steps"]) + rest
    found[made] = Part("synthesis", images * seconds / 3600, images)

    labels = [made, synth["gamma"], chosen.drop, chosen.criterion]
    for group, arms in params["arms"].items():
        for arm in arms.values():
            shown = labels if group == "synthetic" else []
            key = fingerprint(data, params["train"], arm, shown)
            found[key] = Part("classifier", training_hours(params, rows))

    return found


def work_of(recipe: str, presets: tuple[str, ...]) -> list[Part]:
    """What a table's experiments have to do together, shared parts once."""
    found: dict[str, Part] = {}
    for preset in presets:
        for case in cases(recipe, read_preset(preset)):
            found |= parts_of(case.params)

    return list(found.values())


def row(name: str, recipe: str, presets: tuple[str, ...]) -> tuple[str, ...]:
    work = pd.DataFrame(work_of(recipe, presets))
    others = ", and the other four" if len(presets) > 1 else ""
    once = "REPLICATES=1 " if read_table(recipe).replicates > 1 else ""  # as the paper
    command = f"`{once}PRESET={presets[0]} make {recipe}`{others}"

    kinds = work["kind"].value_counts()
    counts = [kinds["experiment"], kinds["fine-tuning"], work["images"].sum()]
    by_kind = work.groupby("kind")["hours"].sum()
    hours = [*by_kind[["fine-tuning", "synthesis", "classifier"]], by_kind.sum(), by_kind.sum() / 4]
    shown = [f"{float(f'{number:.2g}'):,g}" for number in hours]
    return (name, command, *(f"{number:,}" for number in counts), *shown)


def table() -> str:
    return markdown_table([HEAD, ("---",) * len(HEAD), *(row(*entry) for entry in TABLES)])


if __name__ == "__main__":
    print(table())

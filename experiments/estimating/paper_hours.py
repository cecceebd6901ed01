"""What each table of the paper takes, in hours of the paper's GPU: the table in docs/paper.md.

    python -m experiments.estimating.paper_hours        prints it

From what the paper says of an RTX 3090 (Sec. 7.5, Table 11), and for the classifiers from an assumed speed. Rows that
share a fine-tuned model, images or an arm share them here, as they do by DVC's run cache.
"""

import json
from typing import Any, NamedTuple

import numpy as np
from torchvision.models import ResNet50_Weights, ViT_B_16_Weights

from experiments.estimating.counts import list_images
from experiments.markdown import markdown_table
from experiments.tables.recipes import Tree, cases, read_preset, read_recipe
from stages import download, plan, subsample
from stages.shared.diffusion.sampling import reverse_steps
from stages.shared.methods import METHODS, Method
from stages.shared.params import pick
from stages.shared.schemas import method

FINE_TUNING = 4 * 3 / 35_000  # GPU-hours a step: three hours on four GPUs for CUB
SPEED = 15e12  # floating-point operations a second in training a classifier: assumed, of 35.6e12 that TF32 could reach
TRAINED = 2 * 3  # operations of a training step for each multiplication of a forward pass
FORWARD = {  # multiplications of an image, and the side that they are said for, as torchvision has them
    "resnet50": (1e9 * ResNet50_Weights.IMAGENET1K_V1.meta["_ops"], 224),
    "vit_b_16": (1e9 * ViT_B_16_Weights.IMAGENET1K_SWAG_E2E_V1.meta["_ops"], 384),
}
STEPS = 25  # of Table 11
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
HEAD = ("", "command", "experiments", "fine-tuned", "images", "hours: fine-tuning", "synthesis", "classifiers", "all",
        "on 4 GPUs")  # fmt: skip


class Work(NamedTuple):
    """What a table's experiments have to do together; hours by what they are shared by."""

    experiments: set[str]
    learning: dict[str, float]
    synthesis: dict[str, tuple[int, float]]  # images, hours
    training: dict[str, float]


def mean_steps(chosen: Method, steps: int) -> float:
    strengths = chosen.strength if chosen.mode != "gen" else (1.0,)
    return float(np.mean([reverse_steps(steps, strength) for strength in strengths]))


def synthesis_rate() -> tuple[float, float]:
    """Seconds a step and seconds beside the steps of an image: the line through Table 11's four methods."""
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


def mark(*parts: Any) -> str:
    return json.dumps(parts, sort_keys=True)


def images_of(params: Tree) -> tuple[int, int]:
    """Training images of the subset, and synthetic ones."""
    choice, planning = pick(subsample.Params, params).subset, pick(plan.Params, params)
    counts = subsample.wanted_sizes(
        list_images(pick(download.Params, params).data).per_class, choice
    )
    made = plan.target_sizes(counts, planning.synth.multiplier, reverse=choice.mode == "long-tail")
    return int(counts.sum()), int(made.sum())


def add(work: Work, params: Tree, rate: tuple[float, float]) -> None:
    """One row's experiment."""
    chosen = method.resolve(pick(method.Params, params))
    data = [params[section] for section in ("data", "subset", "seed")]
    base = mark(
        data,
        params["base"],
        params["finetune"] if chosen.strategy != "none" else None,
        chosen.strategy,
    )
    drawn = {
        name: value for name, value in params["synth"].items() if name not in ("gamma", "strength")
    }
    made = mark(base, chosen.mode, chosen.strength, drawn)
    rows, images = images_of(params)
    work.experiments.add(mark(params))
    if chosen.strategy != "none":
        work.learning[base] = FINE_TUNING * params["finetune"]["steps"]
    if made not in work.synthesis:
        seconds = rate[0] * mean_steps(chosen, params["synth"]["steps"]) + rate[1]
        work.synthesis[made] = images, images * seconds / 3600
    for group, arms in params["arms"].items():
        labels = (
            [made, params["synth"]["gamma"], params["filter"], chosen.criterion]
            if group == "synthetic"
            else []
        )
        for arm in arms.values():
            work.training[mark(data, params["train"], arm, labels)] = training_hours(params, rows)


def work_of(recipe: str, presets: tuple[str, ...]) -> Work:
    work, rate = Work(set(), {}, {}, {}), synthesis_rate()
    for preset in presets:
        for case in cases(recipe, read_preset(preset)):
            add(work, case.params, rate)
    return work


def row(name: str, recipe: str, presets: tuple[str, ...]) -> tuple[str, ...]:
    work = work_of(recipe, presets)
    learning, training = sum(work.learning.values()), sum(work.training.values())
    images, synthesis = (sum(part) for part in zip(*work.synthesis.values(), strict=True))
    command = f"`PRESET={presets[0]} make {recipe}`" + (
        ", and the other four" if len(presets) > 1 else ""
    )
    hours = [learning, synthesis, training, learning + synthesis + training]
    hours.append(hours[-1] / 4)
    counts = [f"{number:,}" for number in (len(work.experiments), len(work.learning), images)]
    return (name, command, *counts, *(f"{float(f'{number:.2g}'):,g}" for number in hours))


def table() -> str:
    lines = [HEAD, ("---",) * len(HEAD), *(row(*entry) for entry in TABLES)]
    return markdown_table(lines)


if __name__ == "__main__":
    print(table())

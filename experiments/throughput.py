"""How many images a second each method makes on this machine (Table 11).

Reads experiments/tables/table11.yaml and the outputs of `dvc repro finetune`, which must be made
with the preset's parameters. Times stages/synthesize.py's own function, references and encoding
included. Writes table11.json and table11.md into the preset's folder of results.
"""

import os
import platform
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from experiments.markdown import markdown_table
from experiments.running.results import folder, show_printed
from experiments.tables.recipes import parse, read_preset, read_recipe
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import References, buckets, load_translator
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import METHODS, Method, Name, read_strategy
from stages.shared.params import Section, load, read
from stages.shared.paths import DOWNLOAD, SUBSAMPLE
from stages.shared.running.runtime import device, precision
from stages.shared.schemas.synthesize import Params, Synth
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress
from stages.synthesize import synthesize

WARM_UP = 2  # batches


class Row(Section):
    """A method to time, and what the paper prints of it."""

    name: str
    method: Name
    steps: int | None = None  # null: the workspace's
    paper: int | None = None  # images per GPU-hour


class Recipe(Section):
    """experiments/tables/table11.yaml."""

    title: str
    note: str
    images: int = Field(ge=1)
    rounds: int = Field(ge=1)
    reference: str
    rows: list[Row] = Field(min_length=1)


class Bench(NamedTuple):
    """The model and the data that all rows share."""

    pipeline: Any
    text: Text
    table: Table
    classes: int
    synth: Synth


def make_rows(method: Method, count: int, table: Table, classes: int) -> pd.DataFrame:
    """Rows of a plan: all strengths and targets alike, references drawn from all images."""
    rng = np.random.default_rng(0)
    references = rng.choice(table.rows["key"].to_numpy(), size=count)
    numbers = np.arange(count)

    return pd.DataFrame(
        {
            "key": [f"{number:08d}" for number in numbers],
            "target_label": numbers % classes,
            "source_key": "" if method.mode == "gen" else references,
            "strength": np.resize(method.strength, count),
            "seed": numbers,
        }
    )


def time_rows(bench: Bench, rows: pd.DataFrame, steps: int | None) -> float:
    """Seconds for all rows; an encoded image has left the device, so nothing is still under way."""
    synth = bench.synth if steps is None else bench.synth.model_copy(update={"steps": steps})
    began = time.perf_counter()
    references = References(bench.pipeline, bench.table, synth)
    batches = list(buckets(rows, synth.batch))
    for _batch in synthesize(bench.pipeline, references, bench.text, None, synth, batches):
        pass  # the images are made as they are asked for

    return time.perf_counter() - began


def time_methods(recipe: Recipe, bench: Bench) -> dict[str, float]:
    """Images per second by row, the median of the rounds."""
    plans = {}
    for row in recipe.rows:
        method = METHODS[row.method]
        plans[row.name] = make_rows(method, recipe.images, bench.table, bench.classes)

    first = plans[recipe.rows[0].name]
    time_rows(bench, first.head(WARM_UP * bench.synth.batch), None)

    # A round goes through all rows, so that a slow minute of the machine slows no row alone.
    seconds: dict[str, list[float]] = {row.name: [] for row in recipe.rows}
    with Progress(total=recipe.rounds * len(recipe.rows), desc="throughput", unit="row") as bar:
        for _ in range(recipe.rounds):
            for row in recipe.rows:
                seconds[row.name].append(time_rows(bench, plans[row.name], row.steps))
                bar.update()

    return {name: recipe.images / statistics.median(times) for name, times in seconds.items()}


def check_preset(preset: str) -> None:
    """Raises BadInput where the workspace has other parameters than the preset.

    They would be measured under the wrong name.
    """
    if read() != read_preset(preset):
        raise BadInput(
            f"params.yaml: is not presets/{preset}.yaml; copy that here and `dvc repro finetune`, "
            "or set PRESET"
        )


def open_bench() -> Bench:
    """Raises BadInput where the fine-tuned model or the training images are not there."""
    params = load(Params)
    classes = read_classes(DOWNLOAD)
    table = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    pipeline, text = load_translator(params.base, classes, read_strategy(), params.synth)

    return Bench(pipeline, text, table, len(classes), params.synth)


def describe_machine(batch: int) -> str:
    """What the rates were measured on, in words."""
    where = device()
    if where.type == "cuda":
        name = torch.cuda.get_device_name(where)
    else:
        name = f"{os.cpu_count()} {platform.machine()} cores"

    return f"{name}, {str(precision()).removeprefix('torch.')}, batches of {batch}"


def tabulate(recipe: Recipe, rates: dict[str, float]) -> list[dict[str, Any]]:
    """Rates, and their ratios to the reference's: ours and the paper's."""
    printed = {row.name: row.paper for row in recipe.rows}
    base = printed[recipe.reference]

    rows = []
    for row in recipe.rows:
        ratio = rates[row.name] / rates[recipe.reference]
        paper_ratio = round(row.paper / base, 2) if row.paper and base else None
        rows.append(
            {
                "name": row.name,
                "images_per_second": round(rates[row.name], 2),
                "ratio": round(ratio, 2),
                "paper": row.paper,
                "paper_ratio": paper_ratio,
            }
        )

    return rows


def render(recipe: Recipe, rows: list[dict[str, Any]], preset: str, where: str) -> str:
    """The rates as a Markdown page; `where` describes the machine."""
    head = ["", "images a second", "ratio", "paper: images per GPU-hour", "paper: ratio"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        ours = [f"{row['images_per_second']:.1f}", f"{row['ratio']:.2f}"]
        papers = [show_printed(row["paper"]), show_printed(row["paper_ratio"])]
        lines.append([row["name"], *ours, *papers])

    note = (
        f"Ours: preset {preset}, {where}; "
        f"the median of {recipe.rounds} rounds of {recipe.images} images. {recipe.note}"
    )
    return f"# {recipe.title}\n\n{markdown_table(lines)}\n\n{' '.join(note.split())}\n"


def run(preset: str) -> None:
    """Time all methods, and write both files of the table."""
    check_preset(preset)
    recipe: Recipe = parse(Recipe, read_recipe("table11"), "table11")
    bench = open_bench()

    rows = tabulate(recipe, time_methods(recipe, bench))
    where = describe_machine(bench.synth.batch)

    path = folder(preset) / "table11.json"
    content = {"title": recipe.title, "note": recipe.note, "preset": preset}
    write_json(path, content | {"machine": where, "rows": rows})
    path.with_suffix(".md").write_text(render(recipe, rows, preset, where))
    print(f"wrote {path} and {path.with_suffix('.md')}")

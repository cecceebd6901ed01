"""How many images a second each method makes on this machine (Table 11): reads experiments/tables/table11.yaml.

Needs the outputs of `dvc repro finetune`, with the preset's parameters. Times stages/synthesize.py's own function,
references and encoding included. Writes table11.json and table11.md into the preset's folder of results.
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
from tqdm import tqdm

from experiments.markdown import markdown_table
from experiments.running.results import folder, show_printed
from experiments.tables.recipes import parse, read_preset, read_recipe
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import load_translator
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.methods import METHODS, Method, Name, read_strategy
from stages.shared.params import Section, load, read
from stages.shared.paths import DOWNLOAD, SUBSAMPLE
from stages.shared.running.runtime import device, precision
from stages.shared.schemas.synthesize import Params, Synth
from stages.shared.tables import Table, read_classes, read_manifest
from stages.synthesize import synthesize

WARM_UP = 2  # batches


class Row(Section):
    name: str
    method: Name
    steps: int | None = None  # null: the workspace's
    paper: int | None = None  # images per GPU-hour


class Recipe(Section):
    title: str
    note: str
    images: int = Field(ge=1)
    rounds: int = Field(ge=1)
    reference: str
    rows: list[Row] = Field(min_length=1)


class Bench(NamedTuple):
    """What all rows share."""

    pipeline: Any
    text: Text
    table: Table
    classes: int
    synth: Synth


def make_rows(method: Method, count: int, table: Table, classes: int) -> pd.DataFrame:
    """Rows of a plan: all strengths and targets alike, references drawn from all images."""
    rng, numbers = np.random.default_rng(0), np.arange(count)
    rows = pd.DataFrame(
        {"key": [f"{number:08d}" for number in numbers], "target_label": numbers % classes}
    )
    references = rng.choice(table.rows["key"].to_numpy(), size=count)
    rows["source_key"] = "" if method.mode == "gen" else references
    rows["strength"] = np.resize(method.strength, count)
    rows["seed"] = numbers
    return rows


def time_rows(bench: Bench, rows: pd.DataFrame, steps: int | None) -> float:
    """Seconds for all rows; an encoded image has left the device, so nothing is still under way."""
    synth = bench.synth if steps is None else bench.synth.model_copy(update={"steps": steps})
    with tqdm(total=len(rows), disable=True) as bar:
        began = time.perf_counter()
        synthesize(bench.pipeline, bench.table, bench.text, None, rows, synth, bar)
        return time.perf_counter() - began


def measure(recipe: Recipe, bench: Bench) -> dict[str, float]:
    """Images per second by row, the median of the rounds; a round goes through all rows, so that none has luck."""
    plans = {
        row.name: make_rows(METHODS[row.method], recipe.images, bench.table, bench.classes)
        for row in recipe.rows
    }
    time_rows(bench, plans[recipe.rows[0].name].head(WARM_UP * bench.synth.batch), None)
    seconds: dict[str, list[float]] = {row.name: [] for row in recipe.rows}
    with tqdm(total=recipe.rounds * len(recipe.rows), desc="throughput", unit="row") as bar:
        for _ in range(recipe.rounds):
            for row in recipe.rows:
                seconds[row.name].append(time_rows(bench, plans[row.name], row.steps))
                bar.update()
    return {name: recipe.images / statistics.median(times) for name, times in seconds.items()}


def check_preset(preset: str) -> None:
    """Raises BadInput where the workspace has other parameters: it would be measured under the wrong name."""
    if read() != read_preset(preset):
        raise BadInput(
            f"params.yaml: is not presets/{preset}.yaml; copy that here and `dvc repro finetune`, or set PRESET"
        )


def open_bench() -> Bench:
    """Raises BadInput where the fine-tuned model or the training images are not there."""
    params, classes = load(Params), read_classes(DOWNLOAD)
    table = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    pipeline, text = load_translator(params.base, classes, read_strategy(), params.synth.resolution)
    return Bench(pipeline, text, table, len(classes), params.synth)


def machine(batch: int) -> str:
    """What the rates were measured on, in words."""
    where = device()
    name = (
        torch.cuda.get_device_name(where)
        if where.type == "cuda"
        else f"{os.cpu_count()} {platform.machine()} cores"
    )
    return f"{name}, {str(precision()).removeprefix('torch.')}, batches of {batch}"


def tabulate(recipe: Recipe, rates: dict[str, float]) -> list[dict[str, Any]]:
    """Rates and ratios, ours and the paper's."""
    printed = {row.name: row.paper for row in recipe.rows}
    base = printed[recipe.reference]
    return [
        {
            "name": row.name,
            "images_per_second": round(rates[row.name], 2),
            "ratio": round(rates[row.name] / rates[recipe.reference], 2),
            "paper": row.paper,
            "paper_ratio": round(row.paper / base, 2) if row.paper and base else None,
        }
        for row in recipe.rows
    ]


def render(recipe: Recipe, rows: list[dict[str, Any]], preset: str, where: str) -> str:
    head = ["", "images a second", "ratio", "paper: images per GPU-hour", "paper: ratio"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        ours = [f"{row['images_per_second']:.1f}", f"{row['ratio']:.2f}"]
        lines.append(
            [row["name"], *ours, show_printed(row["paper"]), show_printed(row["paper_ratio"])]
        )
    text = markdown_table(lines)
    note = f"Ours: preset {preset}, {where}; the median of {recipe.rounds} rounds of {recipe.images} images. {recipe.note}"
    return f"# {recipe.title}\n\n{text}\n\n{' '.join(note.split())}\n"


def run(preset: str) -> None:
    check_preset(preset)
    recipe: Recipe = parse(Recipe, read_recipe("table11"), "table11")
    bench = open_bench()
    rows, where = tabulate(recipe, measure(recipe, bench)), machine(bench.synth.batch)
    path, content = (
        folder(preset) / "table11.json",
        {"title": recipe.title, "note": recipe.note, "preset": preset},
    )
    write_json(path, content | {"machine": where, "rows": rows})
    path.with_suffix(".md").write_text(render(recipe, rows, preset, where))
    print(f"wrote {path} and {path.with_suffix('.md')}")

"""What cheaper sampling saves on Toybirds, and what it costs in quality.

    python -m benchmarks.cheaper_sampling [--images 240] [--rounds 3]

After `dvc repro finetune`. Each case translates the same training images to the same targets with
the same noise; nothing is tuned on test images. Prints a Markdown table, and writes
metrics/paper/cheaper_sampling.json.

An image's time is that of stages/synthesize.py's own function in one process, references and PNG
included, as the median of rounds that go through all cases. Its quality is the judge's: whether it
sees the target, and whether the background is nearer to the own reference's than to another's.
"""

import io
import statistics
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from benchmarks.judging import keeps_background, percent
from experiments.markdown import markdown_table
from experiments.throughput import describe_machine
from stages.datasets.toybirds.species import SPECIES
from stages.datasets.toybirds.tables import draw
from stages.shared.diffusion.base_model import Pipeline
from stages.shared.diffusion.samplers import use_sampling
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import References, buckets, load_translator
from stages.shared.files import write_json
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.measuring.judge import Judge, load_judge, recognised
from stages.shared.methods import PAPER, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, JUDGE, METRICS, SUBSAMPLE
from stages.shared.running.runtime import seed_everything
from stages.shared.schemas.download import Params as DownloadParams
from stages.shared.schemas.synthesize import Params, Synth
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress
from stages.synthesize import synthesize

OUTPUT = METRICS / "paper/cheaper_sampling.json"
CASES: dict[str, dict[str, Any]] = {  # what each changes in params.yaml's synth
    "default": {},
    "15 steps": {"steps": 15},
    "8 steps": {"steps": 8},
    "5 steps": {"steps": 5},
    "guidance on 3/4 of the steps": {"guidance_stop": 0.75},
    "guidance on half of the steps": {"guidance_stop": 0.5},
    "deep features every 2nd step": {"cache_interval": 2},
    "deep features every 3rd step": {"cache_interval": 3},
    "deep features every 5th step": {"cache_interval": 5},
    "8 steps, deep features every 2nd": {"steps": 8, "cache_interval": 2},
}
SEED = 4  # of references and noise; faithfulness has others
CONFIDENT = 1.96  # standard errors on either side of a 95 % interval


class Bench(NamedTuple):
    """The model, its training images, and the judge."""

    pipeline: Pipeline
    text: Text
    table: Table
    judge: Judge
    synth: Synth
    bias: float  # of the drawn world, which gives the images' masks


class Truth(NamedTuple):
    """What is known of the references, in the order of the plan's rows."""

    images: np.ndarray  # uint8 (n, size, size, 3)
    masks: np.ndarray  # bool (n, size, size)


def make_plan(table: Table, images: int) -> pd.DataFrame:
    """A plan of `images` rows at each of the paper's strengths; every species is a target alike.

    The strengths share references and noise.
    """
    rng = np.random.default_rng(SEED)
    targets = np.arange(images) % len(SPECIES)
    labels = table.rows["label"].to_numpy()
    sources = [rng.choice(np.flatnonzero(labels != target)) for target in targets]

    rows = pd.DataFrame(
        {
            "source_key": table.rows["key"].to_numpy()[sources],
            "source_label": labels[sources],
            "target_label": targets,
            "seed": np.arange(images),
        }
    )
    plan = pd.concat([rows.assign(strength=strength) for strength in PAPER], ignore_index=True)
    plan.insert(0, "key", [f"{row:08d}" for row in range(len(plan))])
    return plan


def draw_truth(plan: pd.DataFrame, bias: float) -> Truth:
    scenes = [draw("train", int(key), bias) for key in plan["source_key"]]
    images, masks = (np.stack(part) for part in zip(*scenes, strict=True))
    return Truth(images, masks)


def translate(bench: Bench, synth: Synth, plan: pd.DataFrame) -> tuple[float, dict[str, bytes]]:
    """Seconds, and the encoded images by key."""
    use_sampling(bench.pipeline, synth)
    references = References(bench.pipeline, bench.table, synth)
    batches = list(buckets(plan, synth.batch))
    found: dict[str, bytes] = {}

    began = time.perf_counter()
    for images in synthesize(bench.pipeline, references, bench.text, None, synth, batches):
        found |= images

    return time.perf_counter() - began, found


def judge_images(
    bench: Bench, plan: pd.DataFrame, truth: Truth, encoded: dict[str, bytes]
) -> pd.DataFrame:
    """For each row of the plan its strength, and whether target and background are seen."""
    files = [io.BytesIO(encoded[key]) for key in plan["key"]]
    made = np.stack([np.asarray(Image.open(file)) for file in files])
    rng = np.random.default_rng(SEED)

    return pd.DataFrame(
        {
            "strength": plan["strength"],
            "recognised": recognised(bench.judge, made) == plan["target_label"],
            "background_kept": keeps_background(made, truth.images, truth.masks, rng),
        }
    )


def run_cases(
    bench: Bench, plan: pd.DataFrame, truth: Truth, rounds: int
) -> tuple[dict[str, float], dict[str, pd.DataFrame]]:
    """Each case's seconds, the median of the rounds, and its judged rows."""
    synths = {name: bench.synth.model_copy(update=changes) for name, changes in CASES.items()}
    translate(bench, synths["default"], plan.head(2 * bench.synth.batch))  # to warm up

    # a round goes through all cases, so that a slow minute of the machine slows no case alone
    seconds: dict[str, list[float]] = {name: [] for name in CASES}
    judged = {}
    with Progress(total=rounds * len(CASES), desc="cheaper sampling", unit="case") as bar:
        for _ in range(rounds):
            for name, synth in synths.items():
                took, encoded = translate(bench, synth, plan)
                seconds[name].append(took)
                if name not in judged:  # every round makes the same images
                    judged[name] = judge_images(bench, plan, truth, encoded)
                bar.update()

    return {name: statistics.median(times) for name, times in seconds.items()}, judged


def change(hits: pd.Series, base: pd.Series) -> dict[str, float]:
    """The mean difference of paired hits in points, and half of its 95 % interval."""
    differences = 100 * (hits.astype(float) - base.astype(float))
    half = CONFIDENT * float(differences.std(ddof=1)) / len(differences) ** 0.5
    return {"mean": round(float(differences.mean()), 1), "half_interval": round(half, 1)}


def tabulate(
    seconds: dict[str, float], judged: dict[str, pd.DataFrame], images: int
) -> list[dict[str, Any]]:
    """A row for each case; images: of all strengths together."""
    base = judged["default"]

    rows = []
    for name, frame in judged.items():
        row: dict[str, Any] = {
            "name": name,
            "parameters": CASES[name],
            "images_per_second": round(images / seconds[name], 2),
            "speed": round(seconds["default"] / seconds[name], 2),
        }
        for measure in ("recognised", "background_kept"):
            row[measure] = {
                f"{strength:g}": percent(part[measure].to_numpy())
                for strength, part in frame.groupby("strength")
            }
            row[f"{measure}_change"] = change(frame[measure], base[measure])
        rows.append(row)

    return rows


def render(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    strengths = " / ".join(rows[0]["recognised"])
    head = [
        "", "parameter", "images/s", "speed", f"faithful at {strengths}", "change",
        f"background kept at {strengths}", "change",
    ]  # fmt: skip

    lines = [head, ["---"] * len(head)]
    for row in rows:
        changed = [f"`synth.{name}: {value}`" for name, value in row["parameters"].items()]
        cells = [row["name"], ", ".join(changed), str(row["images_per_second"])]
        cells.append(f"{row['speed']:.2f}")
        for measure in ("recognised", "background_kept"):
            cells.append(" / ".join(f"{value:.1f}" for value in row[measure].values()))
            cells.append(show_change(row[f"{measure}_change"]) if changed else "")
        lines.append(cells)

    return markdown_table(lines)


def show_change(found: dict[str, float]) -> str:
    if found["mean"] == found["half_interval"] == 0:
        return "in no image"  # "± 0.0" would claim certainty

    return f"{found['mean']:+.1f} ± {found['half_interval']:.1f}"


def open_bench() -> Bench:
    """Raises BadInput where the fine-tuned model or the training images are not there."""
    params = load(Params)
    classes = read_classes(DOWNLOAD)
    table = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    pipeline, text = load_translator(params.base, classes, read_strategy(), params.synth)
    bias = load(DownloadParams).data.toybirds.bias

    return Bench(pipeline, text, table, load_judge(JUDGE), params.synth, bias)


def read_arguments() -> Namespace:
    parser = ArgumentParser(description="What cheaper sampling saves on Toybirds, and costs.")
    parser.add_argument("--images", type=int, default=240, help="at each strength; default: 240")
    parser.add_argument("--rounds", type=int, default=3, help="that are timed; default: 3")
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"default: {OUTPUT}")
    return parser.parse_args()


def main() -> None:
    arguments = read_arguments()
    seed_everything(0)
    bench = open_bench()

    plan = make_plan(bench.table, arguments.images)
    truth = draw_truth(plan, bench.bias)
    seconds, judged = run_cases(bench, plan, truth, arguments.rounds)
    rows = tabulate(seconds, judged, len(plan))

    content = {
        "images": arguments.images,
        "machine": f"one process of {describe_machine(bench.synth.batch)}",
        "rounds": arguments.rounds,
        "rows": rows,
    }
    write_json(arguments.output, content)
    print(render(rows))


if __name__ == "__main__":
    main()

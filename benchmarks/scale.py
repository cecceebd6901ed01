"""What plan, tables, filter and DVC cost at millions of rows: stub images of 1000 classes.

    python -m benchmarks.scale 600000 2000000 6000000      prints Markdown; see docs/scale.md

The classes are as many as ImageNet's, with 5 synthetic images for each real one. Every step is a
process of its own, which starts from files, so that its peak memory is its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch

from stages.filter import confidence, split
from stages.plan import Choice, make_plan
from stages.shared.diffusion.translation import read_plan
from stages.shared.files import write_csv
from stages.shared.manifests import read_manifest
from stages.shared.schemas.plan import Params
from stages.shared.tables import SHARD_ROWS, Table, locate_rows, shard_name

CLASSES = 1000
MULTIPLIER = 5
IMAGE = 1024  # bytes that a stub takes in its shard
CHOICE = Choice("mix", [0.5, 0.7, 0.9])
PARAMS = {
    "seed": 0,
    "subset": {"mode": "full"},
    "synth": {"multiplier": float(MULTIPLIER), "referable_classes": None, "pairing": "any"},
    "clip": {"id": "none", "revision": None},
}
PLAN = Path("plan/plan.csv")
READS = 100_000


def write_sources(rows: int) -> None:
    """Write the training table's manifest, as subsample leaves it."""
    real = rows // MULTIPLIER
    keys = [f"{row:08d}" for row in range(real)]
    frame = pd.DataFrame({"key": keys, "label": np.arange(real) * CLASSES // real})

    write_stubs(frame, Path("sources"))


def write_stubs(rows: pd.DataFrame, folder: Path) -> None:
    """Write a manifest of `rows`, and shards that are as long as it says, and empty."""
    folder.mkdir()
    number = np.arange(len(rows))
    shards = number // SHARD_ROWS

    located = locate_rows(rows, "", [(0, 0)] * len(rows)).assign(
        shard=pd.Series(shards).map(shard_name),
        offset=512 + number % SHARD_ROWS * IMAGE,
        size=IMAGE - 512,
    )
    write_csv(folder / "manifest.csv", located)

    for shard in range(shards[-1] + 1):
        with (folder / shard_name(shard)).open("wb") as file:
            file.truncate((SHARD_ROWS + 1) * IMAGE)


def plan() -> None:
    """Do what stages/plan.py does."""
    params = Params.model_validate(PARAMS)
    made = make_plan(read_manifest(Path("sources")), CLASSES, CHOICE, params)

    PLAN.parent.mkdir()
    made.to_csv(PLAN, index=False, lineterminator="\n")


def read() -> None:
    """Do what every process of synthesize does first."""
    read_plan(PLAN, read_manifest(Path("sources")))


def table() -> None:
    """Write the table of the synthetic images, as synthesize does when its shards are complete."""
    made = pd.read_csv(PLAN, dtype={"key": str, "source_key": str}, keep_default_na=False)
    write_stubs(made.assign(label=made["target_label"]), Path("synthetic"))


def look_up() -> None:
    """Open the table and read images from all over it."""
    images = Table(Path("synthetic"))
    for row in np.random.default_rng(0).integers(len(images), size=READS):
        images.read(int(row))


def filter_rows() -> None:
    """Do what stages/filter.py does, with scores drawn at random instead of CLIP's."""
    rows = read_manifest(Path("synthetic"))
    scores = confidence(torch.rand(len(rows), 2), "metaclass", rows["target_label"])
    kept, dropped = split(rows.assign(score=scores.astype(float).round(6)), 0.1)

    Path("filter").mkdir()
    write_csv(Path("filter/manifest.csv"), kept)
    write_csv(Path("filter/dropped.csv"), dropped)


def dvc(*words: str) -> None:
    """Run a command of DVC."""
    subprocess.run([sys.executable, "-m", "dvc", *words], check=True, stdout=subprocess.DEVNULL)


def add() -> None:
    """Hash all shards, once."""
    dvc("init", "--no-scm", "--quiet")
    dvc("config", "cache.type", "hardlink")
    dvc("add", "--quiet", "synthetic")


def status() -> None:
    """Ask for the status with nothing changed, which every `dvc repro` pays for."""
    dvc("status", "--quiet")


STEPS: dict[str, Callable[[], None]] = {
    "plan": plan,
    "read the plan": read,
    "write the table": table,
    f"{READS:,} images at random": look_up,
    "filter, without CLIP": filter_rows,
    "dvc add": add,
    "dvc status": status,
}


def run_step(name: str) -> tuple[float, float]:
    """Do a step: its seconds, and the peak GiB of this process, or of the `dvc` that it starts."""
    began = time.perf_counter()
    STEPS[name]()
    seconds = time.perf_counter() - began

    process = resource.RUSAGE_CHILDREN if name.startswith("dvc") else resource.RUSAGE_SELF
    return seconds, resource.getrusage(process).ru_maxrss / 2**20


def measure(rows: int) -> dict[str, str]:
    """The costs of all steps, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step"]
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}

    costs = {}
    with TemporaryDirectory(prefix="scale-") as folder:
        for name in ("sources", *STEPS):
            done = subprocess.run(
                [*command, name, str(rows)],
                cwd=folder,
                env=environment,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            if name != "sources":
                costs[name] = done.stdout.strip().splitlines()[-1]

    return costs


def print_table(sizes: list[int]) -> None:
    """Print the steps' costs as Markdown, a column for each number of rows."""
    columns = {f"{rows:,} rows": measure(rows) for rows in sizes}

    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[name, *(column[name] for column in columns.values())] for name in STEPS]
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__.splitlines()[0]
    )
    parser.add_argument("rows", type=int, nargs="+", help="synthetic images")
    parser.add_argument(
        "--step", help="one step, in the working directory; for the processes that this starts"
    )
    given = parser.parse_args()

    if given.step == "sources":
        write_sources(given.rows[0])
    elif given.step:
        print("{:.1f} s, {:.2f} GiB".format(*run_step(given.step)))
    else:
        print_table(given.rows)


if __name__ == "__main__":
    main()

"""What plan, tables, filter and DVC cost at millions of rows, with stub images: ImageNet's classes, 5 images for each.

    python -m benchmarks.scale 600000 2000000 6000000      prints Markdown; see docs/scale.md

Every step is a process of its own, which starts from files, so that its peak memory is its own.
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
from stages.shared.schemas.plan import Params
from stages.shared.tables import (
    SHARD_ROWS,
    Table,
    locate_rows,
    read_manifest,
    shard_name,
    write_csv,
)

CLASSES, MULTIPLIER = 1000, 5
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
    """The training table's manifest, as subsample leaves it."""
    real = rows // MULTIPLIER
    frame = pd.DataFrame(
        {"key": [f"{row:08d}" for row in range(real)], "label": np.arange(real) * CLASSES // real}
    )
    place_stubs(frame, Path("sources"))


def place_stubs(rows: pd.DataFrame, folder: Path) -> None:
    """A manifest of `rows`, and shards that are as long as it says, and empty."""
    folder.mkdir()
    number = np.arange(len(rows))
    shards = number // SHARD_ROWS
    placed = locate_rows(rows, "", [(0, 0)] * len(rows)).assign(
        shard=pd.Series(shards).map(shard_name),
        offset=512 + number % SHARD_ROWS * IMAGE,
        size=IMAGE - 512,
    )
    write_csv(folder / "manifest.csv", placed)
    for shard in range(shards[-1] + 1):
        with (folder / shard_name(shard)).open("wb") as file:
            file.truncate((SHARD_ROWS + 1) * IMAGE)


def plan() -> None:
    """What stages/plan.py does."""
    made = make_plan(read_manifest(Path("sources")), CLASSES, CHOICE, Params.model_validate(PARAMS))
    PLAN.parent.mkdir()
    made.to_csv(PLAN, index=False, lineterminator="\n")


def read() -> None:
    """What every process of synthesize does first."""
    read_plan(PLAN, read_manifest(Path("sources")))


def table() -> None:
    """Write the table of the synthetic images, as synthesize does when its shards are there."""
    made = pd.read_csv(PLAN, dtype={"key": str, "source_key": str}, keep_default_na=False)
    place_stubs(made.assign(label=made["target_label"]), Path("synthetic"))


def look_up() -> None:
    """Open the table and read images from all over it."""
    images = Table(Path("synthetic"))
    for row in np.random.default_rng(0).integers(len(images), size=READS):
        images.read(int(row))


def filter_rows() -> None:
    """What stages/filter.py does but for CLIP, whose scores are drawn."""
    rows = read_manifest(Path("synthetic"))
    scores = confidence(torch.rand(len(rows), 2), "metaclass", rows["target_label"])
    Path("filter").mkdir()
    for part, name in zip(
        split(rows.assign(score=scores.astype(float).round(6)), 0.1),
        ("manifest", "dropped"),
        strict=True,
    ):
        write_csv(Path("filter") / f"{name}.csv", part)


def dvc(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words], check=True, stdout=subprocess.DEVNULL)


def add() -> None:
    """Hash all shards, once."""
    dvc("init", "--no-scm", "--quiet")
    dvc("config", "cache.type", "hardlink")
    dvc("add", "--quiet", "synthetic")


def status() -> None:
    """With nothing changed: what every `dvc repro` pays."""
    dvc("status", "--quiet")


STEPS: dict[str, Callable[[], None]] = {
    "plan": plan, "read the plan": read, "write the table": table, f"{READS:,} images at random": look_up,
    "filter, without CLIP": filter_rows, "dvc add": add, "dvc status": status,
}  # fmt: skip


def run_step(name: str) -> tuple[float, float]:
    """Seconds and peak GiB of a process that does it, or of the process that this starts."""
    began = time.perf_counter()
    STEPS[name]()
    seconds = time.perf_counter() - began
    peaks = [
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    return seconds, (peaks[1] if name.startswith("dvc") else peaks[0]) / 2**20


def measure(rows: int) -> dict[str, str]:
    """All steps, each in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--step"]
    paths = os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])
    found = {}
    with TemporaryDirectory(prefix="scale-") as folder:
        for name in ("sources", *STEPS):
            step = [*command, name, str(rows)]
            done = subprocess.run(
                step,
                cwd=folder,
                env=os.environ | {"PYTHONPATH": paths},
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            if name != "sources":
                found[name] = done.stdout.strip().splitlines()[-1]
    return found


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
        columns = {f"{rows:,} rows": measure(rows) for rows in given.rows}
        lines = [["", *columns], ["---"] * (1 + len(columns))]
        lines += [[name, *(column[name] for column in columns.values())] for name in STEPS]
        print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()

"""Parameter files and made-up rates for the tests of `make estimate`."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from experiments.estimating.calibration import Rates
from experiments.estimating.costs import Task
from experiments.estimating.counts import Counts, Images
from experiments.estimating.timing import Rate
from experiments.tables.recipes import Changes, Tree, change
from stages.shared.methods import METHODS
from tests.support.closure import ROOT

HERE = Path("presets/toybirds.yaml")
TRAINED: Changes = {
    "train.epochs": 10, "train.trials": 3, "finetune.steps": 35000, "finetune.batch": 8,
    "synth.guidance_scale": 7.5, "attention.images": 2,
}  # fmt: skip


def changed(changes: Changes) -> Tree:
    """Toybirds' parameters with some changed."""
    tree = yaml.safe_load((ROOT / HERE).read_text())
    for path, value in changes.items():
        change(tree, path, copy.deepcopy(value), "test")

    return tree


def rate(seconds: float, memory: int | None = 2 * 10**9, measured: int = 8) -> Rate:
    return Rate("a part", seconds, 8, measured, memory)


RATES = Rates(
    machine="a machine", clip=rate(0.02), encoding=rate(0.5), sampler_step=rate(0.25),
    decoding=rate(1.125), finetune_step=rate(0.1, 7 * 10**9), training_step=rate(0.012),
    loading=rate(0.002), network_bytes=100_000_000,
)  # fmt: skip


def plan_of(strengths: list[float], references: int) -> pd.DataFrame:
    """A plan whose rows refer to so many images in turn."""
    rows = np.arange(len(strengths))
    keys = {"key": rows.astype(str), "source_key": (rows % references).astype(str)}
    values = {"source_label": 0, "target_label": 1, "strength": strengths, "seed": 0}
    return pd.DataFrame(keys | values)


PLAN = plan_of([0.5, 0.7, 0.9] * 10, 5)


def task_of(
    plan: pd.DataFrame = PLAN,
    rates: Rates = RATES,
    processes: int = 1,
    cores: int = 1,
    gpu_price: float | None = None,
    **changes,
) -> Task:
    """100 real images to train on, 40 + 10 to test on."""
    tree = changed(TRAINED | {path.replace("__", "."): value for path, value in changes.items()})
    images = Images(np.array([50, 50]), 40, 10, "made up", [], 2_000_000, 1_000_000)
    counts = Counts(images, 100, plan, METHODS[tree["method"]])
    return Task(tree, counts, rates, processes, cores, gpu_price)

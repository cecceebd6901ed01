"""Parameter files and made-up rates for the tests of `make estimate`."""

import copy
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from experiments.estimating.calibration import Rates
from experiments.estimating.costs import Task
from experiments.estimating.counts import Counts, Images
from experiments.estimating.gauges import Rate
from experiments.estimating.pictures import Loading
from experiments.estimating.setting import read_setting
from experiments.tables.recipes import Changes, Tree, change
from stages.shared.methods import METHODS
from tests.support.closure import ROOT

HERE = Path("presets/toybirds.yaml")
GIB = 2**30
TRAINED: Changes = {
    "train.epochs": 10, "train.trials": 3, "finetune.steps": 35000, "finetune.batch": 8, "synth.guidance_scale": 7.5,
    "attention.images": 2,
}  # fmt: skip


def changed(changes: Changes) -> Tree:
    """Toybirds' parameters with some changed."""
    tree = yaml.safe_load((ROOT / HERE).read_text())
    for path, value in changes.items():
        change(tree, path, copy.deepcopy(value), "test")
    return tree


def rate(seconds: float, memory: int = GIB, full: bool = False) -> Rate:
    return Rate(seconds, memory, 4 if full else 8, 8, full)


RATES = Rates(
    machine="a machine", cores=8, others=0.0, memory_meaning="a GPU's",
    encode=rate(0.5), step=rate(0.25), decode=rate(1.0, 5 * GIB),
    png=0.125, learn_encode=rate(0.05), learn=rate(0.1, 7 * GIB), train=rate(0.01), test=rate(0.002, 3 * GIB),
    real=Loading(0.004, 2.0, 4), synthetic=Loading(0.03, 2.0, 4), clip=rate(0.02), clip_missing="",
    png_bytes=400_000, learned_bytes=20_000_000, network_bytes=100_000_000,
)  # fmt: skip


def plan_of(strengths: list[float], references: int) -> pd.DataFrame:
    """A plan whose rows refer to so many images in turn."""
    rows = np.arange(len(strengths))
    keys = {"key": rows.astype(str), "source_key": (rows % references).astype(str)}
    return pd.DataFrame(
        keys | {"source_label": 0, "target_label": 1, "strength": strengths, "seed": 0}
    )


def task_of(plan: pd.DataFrame, rates: Rates = RATES, **changes) -> Task:
    """100 real images to train on, 40 + 10 to test on."""
    tree = changed(TRAINED | {path.replace("__", "."): value for path, value in changes.items()})
    method = METHODS[tree["method"]]
    images = Images(np.array([50, 50]), 40, 10, "made up", [], 2_000_000, 1_000_000)
    return Task(Counts(images, 100, plan, method), read_setting(tree, HERE, method), rates)


PLAN = plan_of([0.5, 0.7, 0.9] * 10, 5)

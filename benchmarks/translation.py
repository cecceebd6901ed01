"""How fast Toybirds are translated on this machine's CPU, beside diffusers' own pipeline.

    python -m benchmarks.translation        after `dvc repro finetune`; prints a JSON line a case

The contenders are those of benchmarks/gpu, with the embedded base: the official code's way, an
image at a time; the stock pipeline in our batches; and ours, as the stage makes its images. All may
use all cores: torch's threads where it is not ours, forked processes where it is. A round goes
through all of them, and the median round counts.
"""

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.gpu.rivals import stock
from benchmarks.gpu.sizes import STRENGTHS
from benchmarks.gpu.timing import Budget, Contender, Row, our_settings, race, stock_settings
from stages.shared.diffusion.translation import References, buckets, load_translator
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FINETUNE, SUBSAMPLE
from stages.shared.prompts import class_prompts
from stages.shared.running.forks import spread
from stages.shared.schemas.synthesize import Params
from stages.shared.tables import Table
from stages.synthesize import synthesize

ROUNDS = 5
BATCHES = 4  # of each strength
SINGLE = 8  # images of each strength, where they are made one at a time
OFFICIAL = "as the official code"
STOCK = "stock pipeline, our batches"
OURS = "ours"


def make_plan(table: Table, images: int, classes: int) -> pd.DataFrame:
    """`images` rows of each strength, as plan.csv has them."""
    count = len(STRENGTHS) * images
    numbers = np.arange(count)

    return pd.DataFrame(
        {
            "key": [f"{number:08d}" for number in numbers],
            "source_key": np.resize(table.rows["key"].to_numpy(), count),
            "target_label": numbers % classes,
            "strength": np.resize(STRENGTHS, count),
            "seed": numbers,
        }
    )


def time_all(params: Params, folder: Path) -> Iterator[Row]:
    """A row for each contender; images go to the folder."""
    synth = params.synth
    strategy = read_strategy()
    classes = read_classes(DOWNLOAD)
    table = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    prompts = class_prompts(classes, strategy)
    pipeline, text = load_translator(params.base, classes, strategy, synth)

    few = make_plan(table, SINGLE, len(classes))
    many = make_plan(table, BATCHES * synth.batch, len(classes))
    batches = list(buckets(many, synth.batch))
    make = partial(synthesize, pipeline, References(pipeline, table, synth), text, None, synth)

    def officially() -> None:
        stock.translate_officially(official, prompts, table, few, synth.steps, folder)

    def in_batches() -> None:
        stock.translate(fused, text, table, many, synth.batch, synth.steps, folder)

    def ours() -> None:
        for images in spread(batches, make):
            for key, image in images.items():
                (folder / f"{key}.png").write_bytes(image)

    official = stock.load_official(params.base, FINETUNE, classes["token"].tolist())
    fused = stock.load_fused(params.base, FINETUNE)
    contenders = {
        OFFICIAL: Contender(officially, len(few), prepare=stock_settings),
        STOCK: Contender(in_batches, len(many), prepare=stock_settings, rivals=(OFFICIAL,)),
        OURS: Contender(ours, len(many), prepare=our_settings, rivals=(OFFICIAL, STOCK)),
    }
    makers = {case: partial(lambda each: each, each) for case, each in contenders.items()}
    yield from race(makers, ROUNDS, Budget(float("inf")))


def main() -> None:
    params = load(Params)
    with tempfile.TemporaryDirectory() as folder:
        for row in time_all(params, Path(folder)):
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

"""Execute the plan: translate (SDEdit) or generate its images with the fine-tuned model, Sec. 3.4 and Eq. 2.

Reads data/plan/plan.csv, the training table, classes.csv, data/finetune/ and the method. Writes data/synthesize/, an
image table.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from stages.shared.diffusion.attention_maps import (
    class_prompt_weights,
    foreground_masks,
    record_attention,
)
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import (
    References,
    buckets,
    load_translator,
    read_plan,
    translate_rows,
)
from stages.shared.methods import Strategy, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FINETUNE, METHOD, PLAN, SUBSAMPLE, SYNTHESIZE
from stages.shared.running.processes import common_folder, launch, processes, share
from stages.shared.running.runtime import device, precision, seed_everything
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.synthesize import Params, Synth, check_mode
from stages.shared.tables import (
    SHARD_ROWS,
    Table,
    encode_png,
    locate_rows,
    read_classes,
    read_manifest,
    shard_name,
    write_csv,
    write_shard,
)


def keep_background(
    images: list[Image.Image], references: list[Image.Image], masks: np.ndarray
) -> list[Image.Image]:
    """The image inside its mask; outside of it the reference, to the byte."""
    return [
        Image.composite(image, reference, Image.fromarray(mask))
        for image, reference, mask in zip(images, references, masks, strict=True)
    ]


def translate_foreground(
    pipeline, references: References, text: Text, rows, synth: Synth, words: Tensor
):
    """`translate_rows` where attention sees the foreground, the reference elsewhere; `words`: `class_prompt_weights`."""
    with record_attention(
        pipeline, words[rows["target_label"].tolist()], synth.resolution
    ) as record:
        images = translate_rows(pipeline, references, text, rows, synth)
    masks = foreground_masks(record.maps(), synth.resolution)
    return keep_background(images, references.images(rows["source_key"]), masks)


def synthesize(
    pipeline,
    table: Table,
    text: Text,
    words: Tensor | None,
    rows: pd.DataFrame,
    synth: Synth,
    bar: tqdm,
) -> list[bytes]:
    """The encoded images of `rows`, in their order; with `words` on the references' own backgrounds."""
    references = References(pipeline, table, rows["source_key"], synth)
    make = translate_rows if words is None else partial(translate_foreground, words=words)
    encoded: dict[str, Future[bytes]] = {}
    with (
        ThreadPoolExecutor() as pool
    ):  # encoders release the GIL: the next batch does not wait for them
        for batch in buckets(rows, synth.batch):
            images = make(pipeline, references, text, batch, synth)
            for key, image in zip(batch["key"], images, strict=True):
                encoded[key] = pool.submit(encode_png, image)
            bar.update(len(batch))
        return [encoded[key].result() for key in rows["key"]]


def is_made(work: Path, shard: str) -> bool:
    return (work / f"{shard}.csv").exists() and (work / "result" / shard).exists()


def make_shard(
    work: Path, shard: str, rows: pd.DataFrame, make: Callable[[pd.DataFrame], list[bytes]]
) -> None:
    """Make a shard and its part of the manifest, unless an earlier run has; renames make each whole or absent."""
    if is_made(work, shard):
        return
    unfinished = work / f"{shard}.new"
    extents = write_shard(
        unfinished, ((f"{k}.png", c) for k, c in zip(rows["key"], make(rows), strict=True))
    )
    unfinished.replace(work / "result" / shard)
    placed = locate_rows(rows.assign(label=rows["target_label"]), shard, extents)
    write_csv(work / unfinished.name, placed)
    unfinished.replace(work / f"{shard}.csv")


def make_images(
    params: Params,
    plan: pd.DataFrame,
    table: Table,
    classes: pd.DataFrame,
    strategy: Strategy,
    work: Path,
) -> pd.DataFrame:
    """All shards of the plan, those that are there already left alone, by all processes; returns the manifest."""
    shards = {
        shard_name(n // SHARD_ROWS): plan.iloc[n : n + SHARD_ROWS]
        for n in range(0, len(plan), SHARD_ROWS)
    }
    mine = share(list(shards))
    pipeline, text = load_translator(params.base, classes, strategy, params.synth.resolution)
    words = (
        class_prompt_weights(pipeline.tokenizer, classes, strategy)
        if params.synth.keep_background
        else None
    )
    done = sum(len(shards[shard]) for shard in mine if is_made(work, shard))
    rows, place = sum(len(shards[shard]) for shard in mine), processes().process_index
    with tqdm(total=rows, initial=done, desc="synthesize", unit="image", position=place) as bar:
        make = partial(synthesize, pipeline, table, text, words, synth=params.synth, bar=bar)
        for shard in mine:
            make_shard(work, shard, shards[shard], make)
    processes().wait_for_everyone()
    return pd.concat([read_manifest(work, name=f"{shard}.csv") for shard in shards])


def main() -> None:
    params, classes, sources, strategy = (
        load(Params),
        read_classes(DOWNLOAD),
        read_manifest(SUBSAMPLE),
        read_strategy(),
    )
    plan, table = read_plan(PLAN / "plan.csv", sources), Table(DOWNLOAD / "train", sources)
    if (plan["source_key"] == "").any():
        check_mode("gen", params.synth)
    method = METHOD / "finetune.json"
    inputs = [
        PLAN / "plan.csv",
        SUBSAMPLE,
        DOWNLOAD / "train",
        DOWNLOAD / "classes.csv",
        FINETUNE,
        method,
        *model_folder(params.base),
    ]
    launch()
    with common_folder("synthesize", work_key(params, inputs, device(), precision())) as work:
        seed_everything(0)
        (work / "result").mkdir(exist_ok=True)
        manifest = make_images(params, plan, table, classes, strategy, work)
        if processes().is_main_process:
            write_csv(work / "result" / "manifest.csv", manifest)
            publish(work / "result", SYNTHESIZE)


if __name__ == "__main__":
    main()

"""Make the planned images with the fine-tuned model: translate references, or start from noise.

Reads:  data/plan/plan.csv, data/subsample/manifest.csv, data/download/{train,classes.csv},
        data/finetune/, data/method/finetune.json, the base model
Writes: data/synthesize/, an image table
Paper:  Sec. 3.4, Eq. 2 (SDEdit)
"""

from collections.abc import Callable, Iterator, Sequence
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
from stages.shared.diffusion.base_model import Pipeline
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import (
    References,
    buckets,
    load_translator,
    read_plan,
    translate_rows,
)
from stages.shared.files import write_csv
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import Strategy, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FINETUNE, METHOD, PLAN, SUBSAMPLE, SYNTHESIZE
from stages.shared.running.forks import spread
from stages.shared.running.inputs import run
from stages.shared.running.processes import common_folder, launch, processes, share
from stages.shared.running.runtime import device, precision, seed_everything
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.synthesize import Params, Synth, check_mode
from stages.shared.tables import SHARD_ROWS, Table, encode_png, locate_rows, shard_name, write_shard


def keep_background(
    images: list[Image.Image], references: list[Image.Image], masks: np.ndarray
) -> list[Image.Image]:
    """The image inside its mask; outside of it the reference, to the byte."""
    return [
        Image.composite(image, reference, Image.fromarray(mask))
        for image, reference, mask in zip(images, references, masks, strict=True)
    ]


def translate_foreground(
    pipeline, references: References, text: Text, rows: pd.DataFrame, synth: Synth, words: Tensor
) -> list[Image.Image]:
    """`translate_rows` where attention finds the foreground, and the reference elsewhere.

    words: what `class_prompt_weights` returns.
    """
    weights = words[rows["target_label"].tolist()]
    with record_attention(pipeline, weights, synth.resolution) as record:
        images = translate_rows(pipeline, references, text, rows, synth)

    masks = foreground_masks(record.maps(), synth.resolution)
    return keep_background(images, references.images(rows["source_key"]), masks)


def synthesize(
    pipeline: Pipeline,
    references: References,
    text: Text,
    words: Tensor | None,
    synth: Synth,
    batches: Sequence[pd.DataFrame],
) -> Iterator[dict[str, bytes]]:
    """Yield the encoded images of each batch of the plan's rows, by key.

    A batch holds one strength. With `words` the images lie on their references' own backgrounds.
    """
    make = translate_rows if words is None else partial(translate_foreground, words=words)
    encoding: dict[str, Future[bytes]] = {}

    # threads encode a batch while the next one is computed: encoders release the GIL
    with ThreadPoolExecutor() as pool:
        for batch in batches:
            images = make(pipeline, references, text, batch, synth)
            previous = encoding
            encoding = {
                key: pool.submit(encode_png, image)
                for key, image in zip(batch["key"], images, strict=True)
            }
            if previous:
                yield {key: future.result() for key, future in previous.items()}

        yield {key: future.result() for key, future in encoding.items()}


def is_made(work: Path, shard: str) -> bool:
    return (work / f"{shard}.csv").exists() and (work / "result" / shard).exists()


def write_shard_of(work: Path, shard: str, rows: pd.DataFrame, images: dict[str, bytes]) -> None:
    """Write a shard and its part of the manifest.

    Both files are renamed when they are complete, so that a run that is killed leaves each whole or
    absent.
    """
    unfinished = work / f"{shard}.new"
    named = ((f"{key}.png", images[key]) for key in rows["key"])
    extents = write_shard(unfinished, named)
    unfinished.replace(work / "result" / shard)

    located = locate_rows(rows.assign(label=rows["target_label"]), shard, extents)
    write_csv(work / unfinished.name, located)
    unfinished.replace(work / f"{shard}.csv")


def make_shards(
    shards: dict[str, pd.DataFrame],
    synth: Synth,
    make: Callable[[Sequence[pd.DataFrame]], Iterator[dict[str, bytes]]],
    work: Path,
) -> Iterator[int]:
    """Make the shards' images, batch by batch, on all cores of a CPU; yields how many were made.

    A shard is written when its last image is there.
    """
    left = dict(shards)
    batches = [batch for rows in shards.values() for batch in buckets(rows, synth.batch)]
    found: dict[str, bytes] = {}

    for images in spread(batches, make):
        found |= images
        yield len(images)

        for shard, rows in list(left.items()):
            if all(key in found for key in rows["key"]):
                write_shard_of(work, shard, rows, found)
                for key in left.pop(shard)["key"]:
                    del found[key]


def make_images(
    params: Params,
    plan: pd.DataFrame,
    table: Table,
    classes: pd.DataFrame,
    strategy: Strategy,
    work: Path,
) -> pd.DataFrame:
    """Make the shards that the plan still lacks, by all processes; returns the whole manifest."""
    synth = params.synth
    shards = {
        shard_name(first // SHARD_ROWS): plan.iloc[first : first + SHARD_ROWS]
        for first in range(0, len(plan), SHARD_ROWS)
    }
    mine = share(list(shards))
    lacking = [shard for shard in mine if not is_made(work, shard)]

    pipeline, text = load_translator(params.base, classes, strategy, synth.resolution)
    words = None
    if synth.keep_background:
        words = class_prompt_weights(pipeline.tokenizer, classes, strategy)
    references = References(pipeline, table, synth)
    make = partial(synthesize, pipeline, references, text, words, synth)

    total = sum(len(shards[shard]) for shard in mine)
    done = total - sum(len(shards[shard]) for shard in lacking)
    position = processes().process_index
    with tqdm(total=total, initial=done, desc="synthesize", unit="image", position=position) as bar:
        for images in make_shards({shard: shards[shard] for shard in lacking}, synth, make, work):
            bar.update(images)

    processes().wait_for_everyone()
    return pd.concat([read_manifest(work, name=f"{shard}.csv") for shard in shards])


def main() -> None:
    params = load(Params)
    classes = read_classes(DOWNLOAD)
    sources = read_manifest(SUBSAMPLE)
    strategy = read_strategy()
    plan = read_plan(PLAN / "plan.csv", sources)
    table = Table(DOWNLOAD / "train", sources)
    if (plan["source_key"] == "").any():
        check_mode("gen", params.synth)

    inputs = [
        PLAN / "plan.csv",
        SUBSAMPLE,
        DOWNLOAD / "train",
        DOWNLOAD / "classes.csv",
        FINETUNE,
        METHOD / "finetune.json",
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
    run(main)

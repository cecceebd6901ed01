"""Make the planned images with the fine-tuned model: translate references, or start from noise.

Reads:  data/plan/plan.csv, data/subsample/manifest.csv, data/download/{train,classes.csv},
        data/finetune/, data/method/finetune.json, the base model
Writes: data/synthesize/, an image table
Paper:  Sec. 3.4, Eq. 2 (SDEdit)
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

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
from stages.shared.diffusion.compiling import compile_unet
from stages.shared.diffusion.sampling import forward_passes, steps_taken
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import (
    References,
    Start,
    buckets,
    fill,
    load_translator,
    read_plan,
    to_images,
    translate_rows,
)
from stages.shared.files import write_csv
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import Strategy, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FINETUNE, METHOD, PLAN, SUBSAMPLE, SYNTHESIZE
from stages.shared.running.ahead import ahead
from stages.shared.running.forks import spread
from stages.shared.running.inputs import run
from stages.shared.running.processes import common_folder, deal, launch, processes
from stages.shared.running.runtime import compiles, device, precision, seed_everything
from stages.shared.running.shards import Shards
from stages.shared.running.store import Store, name_of
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.synthesize import Params, Synth, check_mode
from stages.shared.tables import Table, encode_png

Images = Callable[[], list[Image.Image]]  # still on their way from the device; the call waits


def keep_background(
    images: list[Image.Image], references: list[Image.Image], masks: np.ndarray
) -> list[Image.Image]:
    """The image inside its mask; outside of it the reference, to the byte."""
    return [
        Image.composite(image, reference, Image.fromarray(mask))
        for image, reference, mask in zip(images, references, masks, strict=True)
    ]


def translate_foreground(
    pipeline: Pipeline,
    references: References,
    text: Text,
    words: Tensor,
    synth: Synth,
    batch: pd.DataFrame,
    start: Start,
) -> Images:
    """`translate_rows` where attention finds the foreground, and the reference elsewhere.

    words: what `class_prompt_weights` returns.
    """
    weights = words[batch["target_label"].tolist()]
    with record_attention(pipeline, weights, synth.resolution) as record:
        made = to_images(translate_rows(pipeline, text, batch, synth, start))

    masks = foreground_masks(record.maps(), synth.resolution)
    return lambda: keep_background(made(), references.images(batch["source_key"]), masks)


def synthesize(
    pipeline: Pipeline,
    references: References,
    text: Text,
    words: Tensor | None,
    synth: Synth,
    batches: Sequence[pd.DataFrame],
) -> Iterator[dict[str, bytes]]:
    """Yield the encoded images of each batch of the plan's rows, by key, in order.

    A batch holds one strength. With `words` the images lie on their references' own backgrounds.
    While the device is at work on a batch, threads read the next ones and encode the one before.
    """
    whole = (fill(batch, synth.batch) for batch in batches)
    encoding: deque[Future[dict[str, bytes]]] = deque()

    with ThreadPoolExecutor() as pool:
        readied = ahead(pool, references.start, whole)
        for batch, (filled, start) in zip(batches, readied, strict=True):
            if words is None:
                images = to_images(translate_rows(pipeline, text, filled, synth, start))
            else:
                images = translate_foreground(
                    pipeline, references, text, words, synth, filled, start
                )

            encoding.append(pool.submit(encode_all, images, batch["key"]))
            if len(encoding) > 1:
                yield encoding.popleft().result()

        while encoding:
            yield encoding.popleft().result()


def encode_all(images: Images, keys: pd.Series) -> dict[str, bytes]:
    """The first images, encoded, by key; those that fill up the batch have none."""
    return {key: encode_png(image) for key, image in zip(keys, images(), strict=False)}


def lacking_batches(plan: pd.DataFrame, shards: Shards, size: int) -> list[pd.DataFrame]:
    """The batches with an image that nobody has made, in the order in which shards need them.

    They are the plan's own, whatever is lacking; where the store shares single images, only these.
    """
    lacking = shards.lacking()
    rows = plan[lacking] if shards.store.is_on() else plan
    batches = [batch for batch in buckets(rows, size) if lacking[batch.index].any()]
    return sorted(batches, key=lambda batch: batch.index[-1])


def share_batches(plan: pd.DataFrame, shards: Shards, synth: Synth) -> list[pd.DataFrame]:
    """This process's part of the batches that are lacking, when the store has given what it has."""
    if processes().is_main_process and shards.store.is_on():
        taken = shards.take_stored()
        print(f"{taken} of {len(plan)} images were made before, and come from the store")
    processes().wait_for_everyone()

    # all processes must have seen the same before one of them makes an image
    batches = lacking_batches(plan, shards, synth.batch)
    processes().wait_for_everyone()

    costs = [cost(batch, synth) for batch in batches]
    return deal(batches, costs, processes().num_processes)[processes().process_index]


def stored_name(key: str, plan: pd.DataFrame, number: int) -> str:
    """What the store calls a row's image; key: of all that all rows have in common."""
    row = plan.iloc[number]
    return name_of(key, row["source_key"], row["target_label"], row["strength"], row["seed"])


def strength_of(batch: pd.DataFrame) -> float:
    return float(batch["strength"].iloc[0])


def cost(batch: pd.DataFrame, synth: Synth) -> int:
    """How often the UNet sees its images; what else they take is less than one such pass."""
    return forward_passes(synth, strength_of(batch))


def make_images(
    params: Params,
    shards: Shards,
    batches: Sequence[pd.DataFrame],
    table: Table,
    classes: pd.DataFrame,
    strategy: Strategy,
    compiled: bool = False,
) -> None:
    """Make the batches' images, each into its shard, on all cores of a CPU."""
    synth = params.synth
    pipeline, text = load_translator(params.base, classes, strategy, synth)
    words = None
    if synth.keep_background:
        words = class_prompt_weights(pipeline.tokenizer, classes, strategy)
    if compiled:
        compile_unet(pipeline)
    references = References(pipeline, table, synth)

    def work(part: Sequence[pd.DataFrame]) -> Iterator[int]:
        made = synthesize(pipeline, references, text, words, synth, part)
        for batch, images in zip(part, made, strict=True):
            shards.add(batch.index, images.values())
            yield len(images)

    total = sum(map(len, batches))
    costs = [cost(batch, synth) for batch in batches]
    position = processes().process_index
    with tqdm(total=total, desc="synthesize", unit="image", position=position) as bar:
        for images in spread(batches, work, costs):
            bar.update(images)


def is_compiled(plan: pd.DataFrame, synth: Synth) -> bool:
    """Whether the plan, whatever is left of it, is long enough for it.

    With attention recorded the UNet is not whole.
    """
    passes = sum(steps_taken(synth, strength_of(batch)) for batch in buckets(plan, synth.batch))
    return not synth.keep_background and compiles(passes)


def main() -> None:
    params = load(Params)
    synth = params.synth
    classes = read_classes(DOWNLOAD)
    sources = read_manifest(SUBSAMPLE)
    strategy = read_strategy()
    plan = read_plan(PLAN / "plan.csv", sources)
    table = Table(DOWNLOAD / "train", sources)
    if (plan["source_key"] == "").any():
        check_mode("gen", synth)

    # what all rows have in common, and what determines the whole table
    inputs = [
        DOWNLOAD / "train",
        DOWNLOAD / "classes.csv",
        FINETUNE,
        METHOD / "finetune.json",
        *model_folder(params.base),
        *model_folder(synth.lcm_lora.model),
    ]
    launch()
    compiled = is_compiled(plan, synth)
    common = work_key(params, inputs, device(), precision(), compiled)
    key = work_key(params, [PLAN / "plan.csv", SUBSAMPLE], common)

    with common_folder("synthesize", key) as work:
        seed_everything(0)
        rows = plan.assign(label=plan["target_label"])
        shards = Shards(work, rows, Store("synthesize"), partial(stored_name, common, plan))

        mine = share_batches(plan, shards, synth)
        if mine:
            make_images(params, shards, mine, table, classes, strategy, compiled)
        processes().wait_for_everyone()

        if processes().is_main_process:
            write_csv(work / "result" / "manifest.csv", shards.finish())
            publish(work / "result", SYNTHESIZE)
            shards.store.trim()
            print(shards.store)


if __name__ == "__main__":
    run(main)

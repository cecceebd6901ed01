"""Make the planned images with the fine-tuned model: translate references, or start from noise.

Reads:  data/plan/plan.csv, data/subsample/manifest.csv, data/download/{train,classes.csv},
        data/finetune/, data/method/finetune.json, the base model
Writes: data/synthesize/, an image table
Paper:  Sec. 3.4, Eq. 2 (SDEdit)
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor

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
from stages.shared.running.processes import (
    broadcast,
    common_folder,
    deal,
    launch,
    processes,
)
from stages.shared.running.runtime import (
    compiles,
    hardware,
    precision,
    seed_everything,
    thread_pool,
    to_host,
)
from stages.shared.running.shards import Shards
from stages.shared.running.store import Store, name_of
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.synthesize import Params, Synth, check_mode
from stages.shared.tables import Table, encode_png
from stages.shared.watching.progress import Progress

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
    maps, wait = to_host(record.mean())

    def images() -> list[Image.Image]:
        wait()
        masks = foreground_masks(maps, synth.resolution)
        return keep_background(made(), references.images(batch["source_key"]), masks)

    return images


def synthesize(
    pipeline: Pipeline,
    references: References,
    text: Text,
    words: Tensor | None,
    synth: Synth,
    batches: Iterable[pd.DataFrame],
) -> Iterator[dict[str, bytes]]:
    """Yield the encoded images of each batch of the plan's rows, by key, in order.

    A batch holds one strength. With `words` the images lie on their references' own backgrounds.
    While the device is at work on a batch, threads read the next ones and encode the one before.
    """
    encoding: deque[Future[dict[str, bytes]]] = deque()

    def read(batch: pd.DataFrame) -> tuple[pd.DataFrame, Start]:
        filled = fill(batch, synth.batch)
        return filled, references.start(filled)

    with thread_pool() as pool:
        for batch, (filled, start) in ahead(pool, read, batches):
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


def lacking_batches(
    plan: pd.DataFrame, lacking: np.ndarray, size: int, single: bool
) -> list[np.ndarray]:
    """The batches with an image that nobody has made, as numbers of the plan's rows.

    They come in the order in which shards need them. They are the plan's own, whatever is lacking;
    with `single`, where the store shares single images, they are made of what is lacking alone.
    """
    strengths = plan["strength"].to_numpy()
    numbers = np.flatnonzero(lacking) if single else np.arange(len(plan))

    batches = []
    for strength in np.unique(strengths):
        alike = numbers[strengths[numbers] == strength]
        batches += [alike[first : first + size] for first in range(0, len(alike), size)]

    wanted = [batch for batch in batches if lacking[batch].any()]
    return sorted(wanted, key=lambda batch: batch[-1])


def share_batches(plan: pd.DataFrame, shards: Shards, synth: Synth) -> list[np.ndarray]:
    """This process's part of the batches that are lacking, when the store has given what it has.

    What is lacking the first process sees, for all of them: they must agree.
    """
    single = shards.store.is_on()
    seen: list[np.ndarray | None] = [None]

    if processes().is_main_process:
        if single:
            taken = shards.take_stored()
            print(f"{taken} of {len(plan)} images were made before, and come from the store")
        seen = [shards.lacking()]

    lacking = broadcast(seen)
    shards.wanted = lacking

    batches = lacking_batches(plan, lacking, synth.batch, single)
    costs = [cost(plan, batch, synth) for batch in batches]
    return deal(batches, costs, processes().num_processes)[processes().process_index]


def stored_name(key: str, plan: pd.DataFrame, number: int) -> str:
    """What the store calls a row's image; key: of all that all rows have in common."""
    row = plan.iloc[number]
    return name_of(key, row["source_key"], row["target_label"], row["strength"], row["seed"])


def cost(plan: pd.DataFrame, batch: np.ndarray, synth: Synth) -> int:
    """How often the UNet sees a batch's images; what else they take is less than one such pass."""
    return forward_passes(synth, float(plan["strength"].iloc[batch[0]]))


def make_images(
    params: Params,
    plan: pd.DataFrame,
    shards: Shards,
    batches: Sequence[np.ndarray],
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

    def work(part: Sequence[np.ndarray]) -> Iterator[int]:
        rows = (plan.iloc[batch] for batch in part)
        made = synthesize(pipeline, references, text, words, synth, rows)
        for batch, images in zip(part, made, strict=True):
            shards.add(batch.tolist(), images.values())
            yield len(images)

    total = sum(map(len, batches))
    costs = [cost(plan, batch, synth) for batch in batches]
    position = processes().process_index
    with Progress(total=total, desc="synthesize", unit="image", position=position) as bar:
        for images in spread(batches, work, costs):
            bar.update(images)


def is_compiled(plan: pd.DataFrame, synth: Synth) -> bool:
    """Whether the plan, whatever is left of it, is long enough for it.

    With attention recorded the UNet is not whole.
    """
    passes = 0
    for strength, images in plan["strength"].value_counts().items():
        passes += steps_taken(synth, float(str(strength))) * -(-images // synth.batch)

    return not synth.keep_background and compiles(passes)


def common_inputs(params: Params) -> list[Path]:
    """The files that every image is made of, whatever its row of the plan says."""
    return [
        DOWNLOAD / "train",
        DOWNLOAD / "classes.csv",
        FINETUNE,
        METHOD / "finetune.json",
        *model_folder(params.base),
        *model_folder(params.synth.lcm_lora.model),
    ]


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

    launch()
    compiled = is_compiled(plan, synth)
    common = work_key(params, common_inputs(params), hardware(), precision(), compiled)
    key = work_key(params, [PLAN / "plan.csv", SUBSAMPLE], common)

    with common_folder("synthesize", key) as work:
        seed_everything(0)
        rows = plan.assign(label=plan["target_label"])
        shards = Shards(work, rows, Store("synthesize"), partial(stored_name, common, plan))

        mine = share_batches(plan, shards, synth)
        if mine:
            make_images(params, plan, shards, mine, table, classes, strategy, compiled)
        processes().wait_for_everyone()

        if processes().is_main_process:
            write_csv(work / "result" / "manifest.csv", shards.finish())
            publish(work / "result", SYNTHESIZE)
            if shards.store.is_on():
                shards.store.trim()
                print(shards.store)


if __name__ == "__main__":
    run(main)

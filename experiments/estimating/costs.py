"""Hours, memory and disk of every stage: arithmetic of what there is to do and what a part of it costs."""

from math import ceil
from typing import NamedTuple

import pandas as pd

from experiments.estimating.calibration import Rates
from experiments.estimating.counts import Counts
from experiments.estimating.pictures import Loading
from experiments.estimating.setting import Arm, Setting
from stages.attention import choose_rows
from stages.filter import count_dropped
from stages.shared.classifier.mixing import mix_probability
from stages.shared.diffusion.sampling import reverse_steps
from stages.shared.errors import BadInput
from stages.shared.running.runtime import BATCH
from stages.shared.tables import SHARD_ROWS


class Task(NamedTuple):
    """All that the arithmetic needs."""

    counts: Counts
    setting: Setting
    rates: Rates


class Line(NamedTuple):
    """A stage's cost."""

    stage: str
    what: str
    seconds: float  # one process
    shared: float  # the number of processes asked for, each with an accelerator of its own, on one machine
    memory: int  # bytes at the peak


class Store(NamedTuple):
    """What a stage keeps on disk."""

    path: str
    what: str
    size: int  # bytes


def check_processes(setting: Setting, processes: int) -> None:
    """Raises BadInput for more processes than fine-tuning can share a batch among, as that stage would."""
    batch = setting.finetune.batch
    if setting.method.strategy != "none" and processes > batch:
        raise BadInput(
            f"--processes: {processes} cannot share finetune.batch, which is {batch}; ask for fewer"
        )


def lines(task: Task, processes: int) -> list[Line]:
    """The stages that may take more than seconds, in the pipeline's order."""
    found = [
        learning(task, processes),
        neighbours(task),
        synthesis(task, processes),
        looking(task, processes),
    ]
    found += [
        assessment(task),
        attending(task),
        *(training(task, arm, processes) for arm in task.setting.arms),
    ]
    return [line for line in found if line is not None]


def steps_of(task: Task, rows: pd.DataFrame) -> pd.Series:
    """How many steps of the sampler each row takes."""
    return rows["strength"].map(lambda strength: reverse_steps(task.setting.synth.steps, strength))


def halves(task: Task) -> int:
    """UNet forwards of an image's step."""
    return 2 if task.setting.synth.guidance_scale > 1 else 1


def references(rows: pd.DataFrame) -> int:
    """How many images these rows refer to, each of which is encoded once."""
    return len(set(rows["source_key"]) - {""})


def drawing_seconds(task: Task, rows: pd.DataFrame) -> float:
    """One process' seconds for rows that are drawn together; loading the model is not counted."""
    rates, steps = task.rates, int(steps_of(task, rows).sum())
    images = len(rows) * (rates.decode.seconds + rates.png)
    return references(rows) * rates.encode.seconds + steps * rates.step.seconds + images


def drawing_memory(rates: Rates) -> int:
    return max(rates.encode.memory, rates.step.memory, rates.decode.memory)


def learning(task: Task, processes: int) -> Line | None:
    """Every process encodes all images and mirror images; then they share each batch."""
    params, rates, images = task.setting.finetune, task.rates, 2 * task.counts.rows
    if rates.learn is None or rates.learn_encode is None:
        return None
    encoding, a_part = images * rates.learn_encode.seconds, params.steps * rates.learn.seconds
    times = [encoding + a_part * share for share in (params.batch, ceil(params.batch / processes))]
    what = f"{params.steps:,} steps of {params.batch} images; {images:,} images encoded"
    memory = max(rates.learn.memory, rates.learn_encode.memory)
    return Line("finetune", what, times[0], times[1], memory)


def neighbours(task: Task) -> Line | None:
    """CLIP's look at the training images, which adjacent pairing asks for; one process, whatever the launcher."""
    if task.rates.clip is None or task.setting.pairing != "adjacent":
        return None
    seconds = task.counts.rows * task.rates.clip.seconds
    return Line(
        "plan", f"{task.counts.rows:,} images by CLIP", seconds, seconds, task.rates.clip.memory
    )


def shards(plan: pd.DataFrame) -> list[pd.DataFrame]:
    """What `synthesize` makes and shares shard by shard, as it cuts them."""
    return [plan.iloc[first : first + SHARD_ROWS] for first in range(0, len(plan), SHARD_ROWS)]


def synthesis(task: Task, processes: int) -> Line:
    plan = task.counts.plan
    parts = [drawing_seconds(task, shard) for shard in shards(plan)]
    forwards = halves(task) * int(steps_of(task, plan).sum())
    what = f"{len(plan):,} images, {forwards:,} UNet forwards"
    if encoded := sum(references(shard) for shard in shards(plan)):
        what += f", {encoded:,} references"
    return Line(
        "synthesize", what, sum(parts), largest_share(parts, processes), drawing_memory(task.rates)
    )


def largest_share(parts: list[float], processes: int) -> float:
    """Of the process that has most to do, when they take turns at taking a part."""
    return max(sum(parts[place::processes]) for place in range(processes))


def looking(task: Task, processes: int) -> Line | None:
    """The filter: processes share its batches."""
    if task.rates.clip is None:
        return None
    images = len(task.counts.plan)
    sizes = [float(min(BATCH, images - first)) for first in range(0, images, BATCH)]
    one, several = (
        task.rates.clip.seconds * largest_share(sizes, count) for count in (1, processes)
    )
    return Line("filter", f"{images:,} images by CLIP", one, several, task.rates.clip.memory)


def assessment(task: Task) -> Line | None:
    """One process, whatever the launcher."""
    if task.rates.clip is None:
        return None
    images = len(task.counts.plan) + task.counts.rows
    seconds = images * task.rates.clip.seconds
    return Line("assess", f"{images:,} images by CLIP", seconds, seconds, task.rates.clip.memory)


def attending(task: Task) -> Line | None:
    """One process, whatever the launcher; recording the maps is not counted."""
    rows = choose_rows(task.counts.plan, task.setting.attended)
    if rows.empty:
        return None
    seconds = drawing_seconds(task, rows)
    return Line("attention", f"{len(rows):,} images", seconds, seconds, drawing_memory(task.rates))


def kept(task: Task) -> int:
    """Synthetic images that the filter leaves."""
    images = len(task.counts.plan)
    return images - count_dropped(images, task.setting.drop)


def training(task: Task, arm: Arm, processes: int) -> Line:
    """Processes share trials, and CLIP's labelling as the filter's work; the first one tests all trials."""
    params, rates, real = task.setting.train, task.rates, task.counts.images
    decoding = task.counts.rows * rates.real.once + (
        kept(task) * rates.synthetic.once if arm.synthetic else 0
    )
    tested = real.test + real.ood
    tests = tested * (
        rates.real.once + params.trials * jointly(rates.test.seconds, rates.real, 1.0)
    )

    def seconds(count: int) -> float:
        trial = trial_seconds(task, arm, crowd(rates, min(count, params.trials)))
        return (
            decoding
            + ceil(params.trials / count) * trial
            + tests
            + labelling_seconds(task, arm) / count
        )

    what = f"{params.trials} trials × {params.epochs} epochs × {task.counts.rows:,} images"
    what += ", and their teachers" if teaches(arm) else ""
    return Line(
        arm.stage, what, seconds(1), seconds(processes), max(rates.train.memory, rates.test.memory)
    )


def teaches(arm: Arm) -> bool:
    return arm.synthetic is not None and arm.synthetic.labels == "baseline"


def trial_seconds(task: Task, arm: Arm, slower: float) -> float:
    """A classifier's training, with that of its teacher, who then labels the synthetic images."""
    params, plain, share = (
        task.setting.train,
        arm.params.arm,
        arm.synthetic.p if arm.synthetic else 0.0,
    )
    patched = [
        mix_probability("cmo", plain.mix_probability, epoch, params.epochs)
        for epoch in range(params.epochs)
    ]
    patches = patched if plain.mix == "cmo" else [0.0] * params.epochs
    own = sum(epoch_seconds(task, share, part, slower) for part in patches)
    if not teaches(arm):
        return own
    answers = kept(task) * jointly(task.rates.test.seconds, task.rates.synthetic, slower)
    return own + params.epochs * epoch_seconds(task, 0.0, 0.0, slower) + answers


def epoch_seconds(task: Task, share: float, patches: float, slower: float) -> float:
    """An epoch in which `share` of the images are synthetic, and CMO decodes a patch for `patches` of them.

    slower: how many times longer loading takes than for one process alone.
    """
    rates, rows = task.rates, task.counts.rows
    seconds = (1 - share + patches) * rates.real.seconds + share * rates.synthetic.seconds
    mixed = rates.real._replace(seconds=seconds)
    return rows * jointly(rates.train.seconds, mixed, slower) + rates.real.start


def jointly(computing: float, loading: Loading, slower: float) -> float:
    """Seconds an image, of the slower of the two; their sum where no worker loads while the network computes."""
    if loading.workers == 0:
        return computing + loading.seconds
    return max(computing, slower * loading.seconds)


def crowd(rates: Rates, processes: int) -> float:
    """How much slower each process' workers are than one's alone, once there are more of them than cores."""
    count = rates.real.workers
    return max(1.0, processes * count / max(count, rates.cores))


def labelling_seconds(task: Task, arm: Arm) -> float:
    if task.rates.clip is None or arm.synthetic is None or arm.synthetic.labels != "clip":
        return 0.0
    return (task.counts.rows + kept(task)) * task.rates.clip.seconds


def stores(task: Task) -> list[Store]:
    """What lies on disk in the end, and once more in DVC's cache where the file system copies."""
    real, rates, images = task.counts.images, task.rates, len(task.counts.plan)
    trials, networks = task.setting.train.trials, len(task.setting.arms) * task.setting.train.trials
    made = [
        Store(
            "data/download",
            "images" if real.photos else "images; at most what the archives hold",
            real.stored,
        ),
        Store("data/finetune", "LoRA and tokens", rates.learned_bytes),
        Store(
            "data/synthesize",
            f"{images:,} PNG, {rates.png_bytes / task.setting.synth.resolution**2:.2g} bytes a pixel",
            images * rates.png_bytes,
        ),
        Store("data/train", f"weights of {networks} classifiers", networks * rates.network_bytes),
    ]
    checkpoints = 2 * trials * rates.network_bytes * (1 + any(map(teaches, task.setting.arms)))
    return [
        *(
            [Store("archives", "as fetched; may be removed afterwards", real.archives)]
            if real.archives
            else []
        ),
        *made,
        Store(
            "DVC's cache",
            "the four once more, where the file system copies",
            sum(store.size for store in made),
        ),
        Store(".work", "checkpoints of an arm at work", checkpoints),
    ]

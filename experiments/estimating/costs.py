"""Hours, price and disk of every stage: what there is to do, times what a part of it costs."""

from math import ceil
from typing import Any, NamedTuple

import pandas as pd

from experiments.estimating.calibration import Rates
from experiments.estimating.counts import Counts
from experiments.estimating.timing import Rate
from experiments.tables.recipes import Tree
from stages.attention import choose_rows
from stages.filter import count_dropped
from stages.shared.diffusion.sampling import Sampling, forward_passes
from stages.shared.params import pick
from stages.shared.schemas import synthesize

PNG = 1.7  # bytes a pixel, of a photograph of 512 pixels


class Task(NamedTuple):
    """All that the arithmetic needs."""

    tree: Tree
    counts: Counts
    rates: Rates
    processes: int
    cores: int  # that share the work of one process; 1 on a GPU
    gpu_price: float | None  # currency units an hour and GPU; None where nobody says


class Line(NamedTuple):
    """A stage's cost."""

    stage: str
    does: str
    seconds: float  # of one process
    shared: float  # of the task's processes, each with a GPU of its own, on one machine


class Price(NamedTuple):
    """What a run costs, in currency units."""

    gpu_hour: float
    alone: float  # on one GPU
    shared: float  # on a GPU for each of the task's processes


def lines(task: Task) -> list[Line]:
    """The stages that may take more than seconds, in the pipeline's order, and their sum."""
    rows = task.counts.rows
    plan = task.counts.plan
    found = []
    if task.rates.finetune_step is not None:
        found.append(finetune_line(task, task.rates.finetune_step))
    if task.tree["synth"]["pairing"] == "adjacent":
        found.append(clip_line(task, "plan", rows, 1))

    attended = choose_rows(plan, task.tree["attention"]["images"])
    found += [
        drawing_line(task, "synthesize", plan, task.processes, task.cores),
        clip_line(task, "filter", len(plan), task.processes),
        clip_line(task, "assess", len(plan) + rows, 1),
        drawing_line(task, "attention", attended, 1, 1),
    ]
    for group, stage in (("real", "train_real"), ("synthetic", "train")):
        arms = task.tree["arms"][group]
        found += [train_line(task, f"{stage}@{name}", arms[name]) for name in arms]

    total = sum(line.seconds for line in found)
    return [*found, Line("all", "", total, sum(line.shared for line in found))]


def price_run(task: Task, gpu_price: float) -> Price:
    """The price of all stages.

    A machine's GPUs are paid for until the run ends, also where a stage leaves some of them idle.
    """
    *_, total = lines(task)
    alone = gpu_price * total.seconds / 3600
    return Price(gpu_price, alone, gpu_price * task.processes * total.shared / 3600)


def finetune_line(task: Task, step: Rate) -> Line:
    """Every process encodes all images and their mirror images; then they share each batch."""
    params = task.tree["finetune"]
    encoding = 2 * task.counts.rows * task.rates.encoding.seconds
    steps = params["steps"] * step.seconds

    def seconds(processes: int) -> float:
        return encoding + steps * ceil(params["batch"] / processes)

    # on a CPU, the two halves of a batch
    alone = encoding + steps * ceil(params["batch"] / min(2, task.cores))
    does = f"{params['steps']:,} steps of {params['batch']} images"
    return Line("finetune", does, alone, alone if task.processes == 1 else seconds(task.processes))


def clip_line(task: Task, stage: str, images: int, processes: int) -> Line:
    seconds = images * task.rates.clip.seconds
    return Line(stage, f"{images:,} images by CLIP", seconds, seconds / processes)


def drawing_line(task: Task, stage: str, plan: pd.DataFrame, processes: int, cores: int) -> Line:
    """Processes share the batches by their costs; each encodes the references of its own images."""
    rates = task.rates
    passes, passes_a_step = count_passes(pick(synthesize.Params, task.tree).synth, plan)
    images = passes / passes_a_step * rates.sampler_step.seconds + rates.decoding.seconds
    references = plan["source_key"].replace("", None).nunique()

    def seconds(workers: int) -> float:
        encoded = min(references, len(plan) / workers)
        return float(images.sum()) / workers + encoded * rates.encoding.seconds

    alone = seconds(1) / cores
    does = f"{len(plan):,} images, {passes.sum():,} UNet forwards"
    return Line(stage, does, alone, alone if processes == 1 else seconds(processes))


def count_passes(sampling: Sampling, plan: pd.DataFrame) -> tuple[pd.Series, int]:
    """How often the UNet sees each image of the plan, and how often in the step that is timed."""
    passes = plan["strength"].map(lambda strength: forward_passes(sampling, strength)).astype(int)

    # under guidance, once with the image's prompt and once with the empty one
    return passes, 2 if sampling.guidance_scale > 1 else 1


def train_line(task: Task, stage: str, arm: dict[str, Any]) -> Line:
    """Processes share the trials, and CLIP's labelling; the first one tests all trials.

    More processes than trials share each batch and the tests; the time that their messages take is
    not counted.

    Images are loaded while the network computes, so that the slower of the two counts. An answer
    is a third of a training step, of which two are the way back.
    """
    params = task.tree["train"]
    trials = params["trials"]
    loading = task.rates.loading.seconds
    step = max(task.rates.training_step.seconds, loading)
    answer = max(task.rates.training_step.seconds / 3, loading)

    images = len(task.counts.plan)
    kept = images - count_dropped(images, task.counts.method.drop)
    trial = params["epochs"] * task.counts.rows * step
    labelling = 0.0
    if arm.get("labels") == "baseline":
        # each trial trains a teacher, too, who labels what the filter keeps
        trial = 2 * trial + kept * answer
    elif arm.get("labels") == "clip":
        labelling = (task.counts.rows + kept) * task.rates.clip.seconds

    # on a CPU, the cores share the tests as they share the trials
    tests = trials * (task.counts.images.test + task.counts.images.ood) * answer
    tests /= min(trials, task.cores)

    def seconds(processes: int) -> float:
        if processes > trials:
            return (trials * trial + tests + labelling) / processes
        return ceil(trials / processes) * trial + tests + labelling / processes

    # on a CPU, the cores take the trials; not so where processes are launched
    alone = ceil(trials / min(trials, task.cores)) * trial + tests + labelling
    does = f"{trials} trials × {params['epochs']} epochs × {task.counts.rows:,} images"
    return Line(stage, does, alone, alone if task.processes == 1 else seconds(task.processes))


def stores(task: Task) -> dict[str, int]:
    """The bytes that lie on disk in the end, and those of an arm's checkpoints meanwhile."""
    network = task.rates.network_bytes
    trials = task.tree["train"]["trials"]
    arms = sum(map(len, task.tree["arms"].values()))
    pixels = task.tree["synth"]["resolution"] ** 2

    data = {
        "data/download": task.counts.images.stored,
        "data/synthesize": round(len(task.counts.plan) * pixels * PNG),
        "data/train": arms * trials * network,
    }
    others = {
        "DVC's cache of these, where it copies": sum(data.values()),
        "archives, which may be removed": task.counts.images.archives,
        ".work, checkpoints of weights and momentum": 2 * trials * network,
    }
    found = {path: size for path, size in (data | others).items() if size}
    return found | {"all": sum(found.values())}

"""An estimate as text and as JSON: two significant digits, more would be made up."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from experiments.estimating.costs import Line, Store, Task, halves
from experiments.estimating.counts import Counts
from experiments.estimating.gauges import Rate
from experiments.estimating.pictures import PHOTO
from experiments.estimating.setting import Setting
from experiments.markdown import markdown_table
from experiments.tables.recipes import read_recipe
from stages.shared.diffusion.sampling import reverse_steps

BUSY = 0.1  # cores that other processes may take before it is said that they did
UNITS = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"))
SEVERAL = 1.5  # of a unit, before it is taken
REFERENCE = "diff-mix"
NOT_COUNTED = (
    "Not counted: fetching, loading of libraries and models (up to a minute a stage), evaluate and report; in the "
    "machine's memory, the classifiers' decoded pictures (up to 2 GiB a table)."
)
Cells = Sequence[str]


class Paper(NamedTuple):
    """What Table 11 prints for a method, of one RTX 3090 at 512 pixels."""

    name: str
    images: int  # an hour


class Estimate(NamedTuple):
    """All that is to be told."""

    task: Task
    lines: list[Line]
    stores: list[Store]
    paper: Paper
    processes: int


def read_paper(method: str) -> Paper:
    """The method's row of Table 11; Diff-Mix's where it has none."""
    rows = [row for row in read_recipe("table11")["rows"] if "paper" in row]
    printed = {row["method"]: Paper(row["name"], row["paper"]) for row in rows}
    return printed.get(method, printed[REFERENCE])


def rounded(number: float) -> float:
    """To two significant digits."""
    return float(f"{number:.2g}")


def two(number: float) -> str:
    return f"{rounded(number):,.12g}"


def show_time(seconds: float) -> str:
    """In the largest unit of which there are SEVERAL."""
    scale, unit = next((pair for pair in UNITS if seconds >= SEVERAL * pair[0]), UNITS[-1])
    return f"{two(seconds / scale)} {unit}"


def show_memory(size: int) -> str:
    return f"{two(size / 2**30)} GiB" if size >= 2**29 else f"{two(size / 2**20)} MiB"


def show_disk(size: int) -> str:
    return f"{two(size / 1e9)} GB" if size >= 5e8 else f"{two(size / 1e6)} MB"


def align(rows: Iterable[Cells]) -> str:
    """A Markdown table whose columns stand below each other; the first row is the head."""
    head, *body = rows
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    lines = [head, ["-" * width for width in widths], *body]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return markdown_table(padded)


def show_counts(counts: Counts, setting: Setting) -> str:
    real = counts.images
    rows = [
        ["images", "how many", ""],
        [
            "real, to train on",
            f"{counts.rows:,}",
            f"of {real.per_class.sum():,} in {len(real.per_class)} classes",
        ],
        ["real, to test on", f"{real.test + real.ood:,}", f"{real.test:,} test, {real.ood:,} ood"],
        ["synthetic", f"{len(counts.plan):,}", show_strengths(counts, setting)],
    ]
    return f"{align(rows)}\n\nReal images {real.origin}."


def show_strengths(counts: Counts, setting: Setting) -> str:
    steps, strengths = setting.synth.steps, counts.plan["strength"]
    drawn = [
        f"{(strengths == strength).sum():,} at s = {strength:g} in {reverse_steps(steps, strength)} steps"
        for strength in sorted(set(strengths))
    ]
    return ", ".join(drawn) if counts.method.mode != "gen" else f"from noise in {steps} steps"


def show_rates(task: Task) -> str:
    rates = task.rates
    guided = "2 UNet forwards" if halves(task) == 2 else "1 UNet forward"
    rows = [
        ["of an image", "takes", "measured", "peak memory"],
        show_rate("a part of a fine-tuning step", rates.learn),
        show_rate("encoding, before fine-tuning", rates.learn_encode),
        show_rate("encoding, as a reference", rates.encode),
        show_rate(f"a step of the sampler, {guided}", rates.step),
        show_rate("decoding", rates.decode),
        ["PNG", show_time(rates.png), "by threads", ""],
        show_rate("a look by CLIP", rates.clip),
        show_rate(f"a part of a training step, {task.setting.train.architecture}", rates.train),
        show_rate("an answer of the classifier", rates.test),
        [
            "loading, of a real one",
            show_time(rates.real.seconds),
            f"by {rates.real.workers} workers",
            "",
        ],
        [
            "loading, of a synthetic one",
            show_time(rates.synthetic.seconds),
            f"by {rates.real.workers} workers",
            "",
        ],
    ]
    return f"On {rates.machine}; memory is {rates.memory_meaning}:\n\n{align(rows)}"


def show_rate(name: str, rate: Rate | None) -> list[str]:
    if rate is None:
        return [name, "", "not at all", ""]
    batch = f"in a batch of {rate.measured}" + (
        f", not of {rate.batch}" if rate.measured < rate.batch else ""
    )
    return [name, show_time(rate.seconds), batch, show_memory(rate.memory)]


def show_hours(estimate: Estimate) -> str:
    shown = 2 if estimate.processes > 1 else 1
    rows = [["stage", "does", *["takes", f"{estimate.processes} processes"][:shown], "peak memory"]]
    for line in estimate.lines:
        times = [show_time(line.seconds), show_time(line.shared)]
        rows.append([line.stage, line.what, *times[:shown], show_memory(line.memory)])
    most = max(line.memory for line in estimate.lines)
    return align(
        [*rows, ["all", "", *map(show_time, totals(estimate.lines)[:shown]), show_memory(most)]]
    )


def totals(lines: list[Line]) -> tuple[float, float]:
    """Seconds of one process, and of as many as were asked for."""
    return sum(line.seconds for line in lines), sum(line.shared for line in lines)


def show_stores(stores: list[Store]) -> str:
    rows = [
        ["on disk", "what", "size"],
        *([store.path, store.what, show_disk(store.size)] for store in stores),
    ]
    return align([*rows, ["all", "", show_disk(sum(store.size for store in stores))]])


def images_per_hour(estimate: Estimate) -> float:
    """Of one process, here."""
    seconds = next(line.seconds for line in estimate.lines if line.stage == "synthesize")
    return 3600 * len(estimate.task.counts.plan) / seconds


def show_paper(estimate: Estimate) -> str:
    """Ours beside the paper's."""
    images, paper = len(estimate.task.counts.plan), estimate.paper
    return (
        f"Synthesis makes {two(images_per_hour(estimate))} images an hour here, in one process. The paper's GPU, an "
        f"RTX 3090, makes {paper.images:,} ({paper.name}, 512 pixels): these {images:,} would take it "
        f"{show_time(3600 * images / paper.images)}."
    )


def warnings(estimate: Estimate) -> list[str]:
    """What makes the estimate less than it seems, a sentence each; of what does not fit, with the cure."""
    task, rates, setting = estimate.task, estimate.task.rates, estimate.task.setting
    batches = {
        "finetune.batch": (rates.learn_encode, rates.learn),
        "synth.batch": (rates.encode, rates.step, rates.decode),
        "train.batch": (rates.train, rates.test),
    }
    found = [
        refusal(name, rate)
        for name, parts in batches.items()
        for rate in parts
        if rate is not None and rate.full
    ]
    if rates.others > BUSY:
        found.append(
            f"Other processes took {two(rates.others)} of {rates.cores} cores meanwhile: alone it is faster."
        )
    if not task.counts.images.photos:
        found.append(
            f"No image is there yet: a drawn one of {PHOTO[0]} x {PHOTO[1]}, as smooth as a photograph, stands in."
        )
    if rates.clip is None:
        found.append(
            f"What CLIP looks at is left out, since it cannot be loaded: {rates.clip_missing}"
        )
    if setting.frechet == "inception":
        found.append("assess: Inception's look at the same images is left out.")
    if setting.synth.keep_background:
        found.append("synthesize: recording the attention for synth.keep_background is left out.")
    if task.counts.images.ood and task.counts.images.archives:
        found.append("archives: that of Waterbirds is left out: its size is not published.")
    if estimate.processes > 1:
        found.append(
            f"{estimate.processes} processes: each with a GPU of its own, all on one machine."
        )
    return found


def refusal(name: str, rate: Rate) -> str:
    return (
        f"{name}: {rate.batch} images at once take about {show_memory(rate.memory)}, which is more than there is; "
        f"{rate.measured} could be measured. Lower it, or take another machine."
    )


def show_costs(estimate: Estimate) -> str:
    """All that follows from the calibration."""
    parts = [
        show_rates(estimate.task),
        show_hours(estimate),
        show_paper(estimate),
        show_stores(estimate.stores),
    ]
    return "\n\n".join([*parts, "\n".join([*warnings(estimate), NOT_COUNTED])])


def content(estimate: Estimate) -> dict[str, Any]:
    """The same as JSON, in seconds and bytes: two significant digits of what was measured, counts as they are."""
    counts, rates, paper = estimate.task.counts, estimate.task.rates, estimate.paper
    one, several = totals(estimate.lines)
    return {
        "images": {
            "classes": len(counts.images.per_class), "train": counts.rows, "test": counts.images.test,
            "ood": counts.images.ood, "synthetic": len(counts.plan), "origin": counts.images.origin,
        },
        "rates": {name: as_json(value) for name, value in rates._asdict().items()},
        "stages": [as_json(line) for line in estimate.lines],
        "total": {"seconds": rounded(one), "shared": rounded(several), "processes": estimate.processes},
        "disk": [as_json(store) for store in estimate.stores],
        "images_per_hour": {"here": rounded(images_per_hour(estimate)), "paper": paper.images, "of": paper.name},
        "warnings": [*warnings(estimate), NOT_COUNTED],
    }  # fmt: skip


def as_json(value: Any) -> Any:
    """A named tuple as a dictionary; fractions rounded."""
    if hasattr(value, "_asdict"):
        return {name: as_json(part) for name, part in value._asdict().items()}
    return rounded(value) if isinstance(value, float) else value

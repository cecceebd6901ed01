"""An estimate as JSON, in seconds and bytes, and as text, to two significant digits."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from experiments.estimating.costs import Task, lines, price_run, stores
from experiments.estimating.counts import Counts
from experiments.estimating.timing import Rate
from experiments.markdown import markdown_table
from experiments.tables.recipes import Tree
from stages.shared.diffusion.sampling import steps_taken
from stages.shared.params import pick
from stages.shared.schemas import synthesize

PAPER = 4179  # images an hour that Diff-Mix makes on an RTX 3090 at 512 pixels (Table 11)
TIMES = ((3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))
SIZES = ((1e9, "GB"), (1e6, "MB"))
COLUMNS = {  # the headings of what is measured, and its units
    "seconds": ("takes", TIMES),
    "shared": ("of several processes", TIMES),
    "memory": ("peak GPU memory", SIZES),
    "size": ("size", SIZES),
}

ON_CPU = (
    "This is a CPU, and slow parts were given an image or two: "
    "their hours are an order of magnitude."
)
DRAWN = "No image is there yet: pictures of noise stand for the photographs."
SEVERAL = "Several processes have a GPU each, and cores enough to load its images."
PRICED_ON_CPU = (
    "The price takes this CPU's hours for a GPU's, which needs far fewer: "
    "estimate it on the GPU that you will pay for."
)
NOT_COUNTED = (
    "Not counted: fetching, loading of libraries and models (up to a minute a stage), evaluate, "
    "report, Inception's features, recorded attention; on disk LoRA and the archive of Waterbirds."
)


def show(number: float | None, units: Sequence[tuple[float, str]]) -> str:
    """To two digits, in the largest unit of which there are one and a half."""
    if number is None:
        return "not measured: needs a GPU"

    scale, unit = next((pair for pair in units if number >= 1.5 * pair[0]), units[-1])
    return f"{float(f'{number / scale:.2g}'):,.12g} {unit}"


def show_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table whose columns stand below each other."""
    columns = []
    for name in rows[0]:
        heading, units = COLUMNS.get(name, (name, None))
        values = [row[name] for row in rows]
        cells = [show(value, units) if units else str(value) for value in values]
        width = max(map(len, [heading, *cells]))
        columns.append([cell.ljust(width) for cell in [heading, "-" * width, *cells]])

    return markdown_table(list(zip(*columns, strict=True)))


def show_counts(tree: Tree, counts: Counts) -> str:
    """What there is to do, in images."""
    real = counts.images
    synth = pick(synthesize.Params, tree).synth
    drawn = [
        f"{number:,} at s = {strength} in {steps_taken(synth, strength)} steps"
        for strength, number in sorted(Counter(counts.plan["strength"]).items())
    ]
    return (
        f"to train on:  {counts.rows:,} of {real.per_class.sum():,} images "
        f"in {len(real.per_class)} classes, {real.origin}\n"
        f"to test on:   {real.test + real.ood:,}, of which {real.ood:,} ood\n"
        f"to be made:   {len(counts.plan):,}: {', '.join(drawn)}"
    )


def content(task: Task) -> dict[str, Any]:
    """The estimate as JSON; it has a price where the task says what a GPU costs."""
    rates = [rate for rate in task.rates if isinstance(rate, Rate)]
    images = task.counts.images
    planned = len(task.counts.plan)
    found = lines(task)
    (synthesis,) = [line for line in found if line.stage == "synthesize"]

    priced: dict[str, Any] = {}
    if task.gpu_price is not None:
        priced = {"price": price_run(task, task.gpu_price)._asdict()}

    return priced | {
        "images": {"train": task.counts.rows, "test": images.test, "ood": images.ood,
                   "synthetic": planned, "classes": len(images.per_class)},
        "machine": task.rates.machine,
        "processes": task.processes,
        "rates": [rate._asdict() for rate in rates],
        "stages": [line._asdict() for line in found],
        "disk": [{"on disk": path, "size": size} for path, size in stores(task).items()],
        "images_per_hour": {"here": round(3600 * planned / synthesis.seconds), "paper": PAPER},
        "warnings": warnings(task, rates),
    }  # fmt: skip


def warnings(task: Task, rates: list[Rate]) -> list[str]:
    """What makes the estimate less than it seems, a sentence each."""
    found = [
        f"{rate.part}: {rate.batch} images at once do not fit into the GPU's memory, "
        f"{rate.measured} do; lower it, or take a larger GPU."
        for rate in rates
        if rate.memory is not None and rate.measured < rate.batch
    ]
    if any(rate.memory is None and rate.measured < rate.batch for rate in rates):
        found.append(ON_CPU)
    if task.gpu_price is not None and any(rate.memory is None for rate in rates):
        found.append(PRICED_ON_CPU)
    if not task.counts.images.photos:
        found.append(DRAWN)
    if task.processes > 1:
        found.append(SEVERAL)

    return [*found, NOT_COUNTED]


def show_costs(found: dict[str, Any]) -> str:
    """What `content` holds of hours, memory, price and disk."""
    rate = found["images_per_hour"]
    compared = (
        f"Synthesis makes {show(rate['here'], [(1, 'images')])} an hour here, in one process; "
        f"the paper's GPU, an RTX 3090, makes {rate['paper']:,} of 512 pixels."
    )
    stages = found["stages"]
    if found["processes"] == 1:
        stages = [{name: line[name] for name in line if name != "shared"} for line in stages]

    parts = [show_table(found["rates"]), show_table(stages)]
    if "price" in found:
        parts.append(show_price(found["price"], found["processes"]))
    parts += [compared, show_table(found["disk"])]

    return "\n\n".join([f"An image, on {found['machine']}:", *parts, *found["warnings"]])


def show_price(price: dict[str, float], processes: int) -> str:
    """What all stages cost on one GPU and, where several processes were asked for, on several."""
    alone = show(price["alone"], [(1, "on one GPU")])
    said = f"At a price of {price['gpu_hour']:g} an hour and GPU, all stages cost {alone}"
    if processes == 1:
        return f"{said}."

    shared = show(price["shared"], [(1, f"on {processes}")])
    return f"{said}, and {shared}, each of which is paid for until the last stage ends."

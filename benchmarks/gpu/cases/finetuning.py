"""Fine-tuning steps: as the official code takes them, and ours.

Pictures are decoded before, and the official steps read them from memory, so that what is compared
is the GPU's work. A round of the official steps begins where the one before has ended.
"""

from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor

from benchmarks.gpu import ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.cases.sameness import answer, finetune_twice, finetuning_table
from benchmarks.gpu.rivals.official_finetuning import OfficialLearner
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import (
    Contender,
    Maker,
    Row,
    check_runs,
    our_settings,
    race,
    stock_settings,
)
from stages.shared.diffusion.base_model import to_bytes
from stages.shared.diffusion.compiling import compile_unet
from stages.shared.tables import Table

OFFICIAL = "as the official code"
ONLINE = "ours, images encoded in each step"
CACHED = "ours"
COMPILED = "ours, compiled"
AGAIN = "the same bytes, twice"


def group(_sizes: Sizes) -> Group:
    return Group("fine-tuning", (OFFICIAL, ONLINE, CACHED), run)


def compiled_group(_sizes: Sizes) -> Group:
    return Group("fine-tuning compiled", (CACHED, COMPILED, AGAIN), run_compiled)


def run(bench: Bench) -> Iterator[Row]:
    table = finetuning_table(bench)
    pixels = load_pixels(bench, table)
    course = ours.open_finetuning(bench, table)
    rivals = (OFFICIAL,)

    makers: dict[str, Maker] = {
        OFFICIAL: partial(official_contender, bench, pixels),
        ONLINE: lambda: contend(bench, lambda: ours.finetune_online(course, pixels), rivals),
        CACHED: lambda: cached_contender(bench, course, rivals),
    }
    yield from race(makers, bench.sizes.rounds, bench.budget)


def run_compiled(bench: Bench) -> Iterator[Row]:
    table = finetuning_table(bench)
    plain = ours.open_finetuning(bench, table)
    fast = ours.open_finetuning(bench, table)
    compile_unet(fast.learner.pipeline)

    makers = {
        CACHED: lambda: cached_contender(bench, plain),
        COMPILED: lambda: cached_contender(bench, fast, (CACHED,)),
    }
    for row in race(makers, bench.sizes.rounds, bench.budget):
        yield row
        check_runs(row)

    yield from answer({AGAIN: lambda: finetune_twice(fast, bench.folder)}, bench.budget)


def load_pixels(bench: Bench, table: Table) -> Tensor:
    """All pictures of the table in [-1, 1], (n, 3, resolution, resolution), on the CPU."""
    images = [table.image(row) for row in range(len(table))]
    return 2 * (to_bytes(images, bench.sizes.resolution).float() / 255) - 1


def contend(
    bench: Bench,
    work: Callable[[], object],
    rivals: tuple[str, ...] = (),
    prepare: Callable[[], None] = our_settings,
) -> Contender:
    return Contender(work, bench.sizes.finetune_steps, "steps", prepare, rivals=rivals)


def cached_contender(bench: Bench, course: ours.Course, rivals: tuple[str, ...] = ()) -> Contender:
    return contend(bench, lambda: ours.finetune(course, bench.folder / "checkpoint.pt"), rivals)


def official_contender(bench: Bench, pixels: Tensor) -> Contender:
    learner = OfficialLearner(bench, pixels)
    return contend(bench, learner.take_steps, prepare=stock_settings)

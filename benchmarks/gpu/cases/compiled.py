"""Translation with the UNet compiled, beside the same uncompiled, and whether its bytes stay."""

from collections.abc import Iterator
from functools import partial

from benchmarks.gpu import ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.cases.sameness import AGAIN, COMPANIONS, PLACE, answer, translation_checks
from benchmarks.gpu.cases.translation import our_case, our_contender, reference_table
from benchmarks.gpu.cases.unet import add_flops, count_flops, unet_case, unet_contender
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Row, check_runs, race
from stages.shared.diffusion.compiling import compile_unet


def compiled(case: str) -> str:
    return f"{case}, compiled"


def group(sizes: Sizes) -> Group:
    eager = (our_case(sizes.batch), unet_case(sizes.batch))
    cases = (*eager, *map(compiled, eager), AGAIN, COMPANIONS, PLACE)
    return Group("translation compiled", cases, run)


def run(bench: Bench) -> Iterator[Row]:
    """Each shape is compiled once, in the first warm-up: both cases pass the same batches."""
    sizes = bench.sizes
    table = reference_table(bench)
    plain = ours.load_translator(bench)
    fast = ours.load_translator(bench)
    compile_unet(fast[0])

    whole = our_case(sizes.batch)
    alone = unet_case(sizes.batch)
    makers = {
        whole: partial(our_contender, bench, table, *plain, sizes.batch),
        alone: partial(unet_contender, bench, *plain),
        compiled(whole): partial(our_contender, bench, table, *fast, sizes.batch, (whole,)),
        compiled(alone): partial(unet_contender, bench, *fast, (alone,)),
    }
    flops = 2 * sizes.batch * count_flops(*plain)

    for row in race(makers, sizes.rounds, bench.budget):
        if row["case"] in (alone, compiled(alone)):
            add_flops(row, flops)
        yield row
        if row["case"] == compiled(whole):
            check_runs(row)

    yield from answer(translation_checks(bench, *fast, table), bench.budget)

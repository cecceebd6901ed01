"""The groups of cases in their order, and a run of them."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.cases import (
    classifying,
    compiled,
    filtering,
    finetuning,
    kernels,
    sameness,
    translation,
    unet,
)
from benchmarks.gpu.machine import describe, file_name, read_card
from benchmarks.gpu.report import Report, run_groups
from benchmarks.gpu.sizes import FULL, TINY, Sizes
from benchmarks.gpu.timing import Budget, our_settings
from stages.shared.errors import BadInput

RESULTS = Path("metrics/gpu")
TRIALS = Path(".work/gpu")  # of tiny runs, whose numbers say nothing


def all_groups(sizes: Sizes) -> list[Group]:
    """Most important first; but what is compiled for minutes lets quick groups go before."""
    return [
        translation.group(sizes),
        unet.group(sizes),
        compiled.group(sizes),
        finetuning.group(sizes),
        filtering.group(sizes),
        *classifying.groups(sizes),
        sameness.group(sizes),
        finetuning.compiled_group(sizes),
        kernels.group(sizes),
    ]


def choose(groups: Sequence[Group], titles: Sequence[str] | None) -> list[Group]:
    """The groups of these titles, or all of them; raises BadInput for a title of none."""
    known = [group.title for group in groups]
    unknown = [title for title in titles or [] if title not in known]
    if unknown:
        raise BadInput(f"--only: no group is called {unknown[0]!r}; there are {', '.join(known)}")

    return [group for group in groups if titles is None or group.title in titles]


def run(
    tiny: bool, budget: Budget, only: Sequence[str] | None, output: Path | None, folder: Path
) -> None:
    """Measure, and print and write the results.

    folder: for models and tables.
    """
    # before any product on the GPU: cuBLAS is deterministic only if it was asked before its first
    our_settings()

    sizes = TINY if tiny else FULL
    groups = choose(all_groups(sizes), only)
    results = output or (TRIALS if tiny else RESULTS)
    report = Report(results / file_name(sizes.name), describe())
    run_groups(groups, Bench(sizes, folder, budget), report)

    report.machine["clocks_after"] = read_card()
    report.write()
    print(f"\n{report.table()}\n\nwrote {report.path}")

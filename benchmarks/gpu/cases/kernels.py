"""Choices that only a measurement decides: attention's kernels, and the autoencoder's layout."""

import warnings
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu import ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.cases.translation import our_contender, reference_table
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Contender, Maker, Row, our_settings, race
from stages.shared.diffusion.base_model import Pipeline
from stages.shared.running.runtime import device, precision

CHOSEN = "ours, attention's kernel as torch chooses"
BACKENDS = {
    "FLASH": SDPBackend.FLASH_ATTENTION,
    "CUDNN": SDPBackend.CUDNN_ATTENTION,
    "EFFICIENT": SDPBackend.EFFICIENT_ATTENTION,
}
LAYOUTS = {
    "autoencoder channels first": torch.contiguous_format,
    "autoencoder channels last": torch.channels_last,
}
HEADS = (40, 80, 160, 512)  # sizes of Stable Diffusion's heads, the last in its autoencoder


def backend_case(name: str) -> str:
    return f"ours, {name} where it runs"


def layout_case(name: str) -> str:
    return f"ours, {name}"


def group(_sizes: Sizes) -> Group:
    cases = (CHOSEN, *map(backend_case, BACKENDS), *map(layout_case, LAYOUTS))
    return Group("kernels", cases, run)


def run(bench: Bench) -> Iterator[Row]:
    table = reference_table(bench)
    batch = bench.sizes.batch
    make = partial(our_contender, bench, table, *ours.load_translator(bench), batch)
    makers: dict[str, Maker] = {CHOSEN: make}
    for name, backend in BACKENDS.items():
        makers[backend_case(name)] = partial(prefer, make, backend)

    # of its own, since its layout changes from turn to turn
    pipeline, text = ours.load_translator(bench)
    make = partial(our_contender, bench, table, pipeline, text, batch, (CHOSEN,))
    for name, layout in LAYOUTS.items():
        makers[layout_case(name)] = partial(make, partial(lay_out, pipeline, layout))

    runs_on = {backend_case(name): head_sizes(backend) for name, backend in BACKENDS.items()}
    for row in race(makers, bench.sizes.rounds, bench.budget):
        if row["case"] in runs_on:
            row["head_sizes"] = runs_on[row["case"]]
        yield row


def lay_out(pipeline: Pipeline, layout: torch.memory_format) -> None:
    our_settings()
    pipeline.vae.to(memory_format=layout)


def prefer(make: partial[Contender], backend: SDPBackend) -> Contender:
    """The same work with this backend first; others take what it cannot do."""
    order = [backend, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    order = list(dict.fromkeys(order))
    contender = make(rivals=(CHOSEN,))

    def preferring(work: Callable[[], object]) -> None:
        with sdpa_kernel(order, set_priority=True):
            work()

    first = contender.warm_up or contender.run
    return contender._replace(
        run=partial(preferring, contender.run), warm_up=partial(preferring, first)
    )


def head_sizes(backend: SDPBackend) -> list[int]:
    """Those of HEADS with which the backend runs, alone, on this device."""
    return [size for size in HEADS if runs(backend, size)]


def runs(backend: SDPBackend, size: int) -> bool:
    states = torch.zeros(1, 1, 64, size, device=device(), dtype=precision())
    try:
        with warnings.catch_warnings(), sdpa_kernel(backend):
            warnings.simplefilter("ignore")  # they tell at length why it does not run
            F.scaled_dot_product_attention(states, states, states)
    except RuntimeError:
        return False
    return True

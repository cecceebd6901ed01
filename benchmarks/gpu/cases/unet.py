"""The UNet alone, as TFLOP/s beside what the card does on a large matrix product."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Contender, Row, race
from stages.shared.diffusion.base_model import Pipeline
from stages.shared.diffusion.text import Text, predict
from stages.shared.running.runtime import device, precision

PRODUCT = "a product of large matrices"
PRODUCTS = 20  # a round


def unet_case(batch: int) -> str:
    return f"UNet, batch {batch}, guided"


def group(sizes: Sizes) -> Group:
    return Group("UNet alone", (PRODUCT, unet_case(sizes.batch)), run)


def run(bench: Bench) -> Iterator[Row]:
    sizes = bench.sizes
    pipeline, text = ours.load_translator(bench)
    case = unet_case(sizes.batch)
    makers = {
        PRODUCT: partial(product_contender, sizes.matrix),
        case: partial(unet_contender, bench, pipeline, text),
    }
    flops = {PRODUCT: 2 * sizes.matrix**3, case: 2 * sizes.batch * count_flops(pipeline, text)}

    peak = None
    for row in race(makers, sizes.rounds, bench.budget):
        add_flops(row, flops[row["case"]], peak)
        peak = peak or row.get("tflops")
        yield row


def add_flops(row: Row, flops: int, peak: float | None = None) -> None:
    """Add TFLOP/s, and their share of the peak's; flops: of one unit."""
    if "per_second" not in row:
        return

    row["tflops"] = round(row["per_second"] * flops / 1e12, 4)
    if peak:
        row["share_of_product"] = round(row["tflops"] / peak, 3)


def product_contender(side: int) -> Contender:
    left = torch.randn(side, side, device=device(), dtype=precision())
    right = torch.randn(side, side, device=device(), dtype=precision())

    def multiply() -> None:
        for _ in range(PRODUCTS):
            left @ right

    return Contender(multiply, PRODUCTS, "products")


def unet_contender(
    bench: Bench, pipeline: Pipeline, text: Text, rivals: tuple[str, ...] = ()
) -> Contender:
    """Passes of a guided batch, which is twice the images."""
    forward = make_forward(bench, pipeline, text)

    def work() -> None:
        for _ in range(bench.sizes.forwards):
            forward()

    return Contender(work, bench.sizes.forwards, "passes", rivals=rivals)


@torch.inference_mode()
def make_forward(bench: Bench, pipeline: Pipeline, text: Text) -> Callable[[], torch.Tensor]:
    """One pass, as the sampler makes it.

    In inference mode as there: tensors made outside of it would be compiled for once more.
    """
    count = bench.sizes.batch
    latents = make_latents(pipeline, 2 * count)
    pipeline.scheduler.set_timesteps(bench.sizes.steps, device=pipeline.device)
    time = pipeline.scheduler.timesteps[0]
    prompts = text.rows([0] * count + [-1]).guided()

    @torch.inference_mode()
    def forward() -> torch.Tensor:
        return predict(pipeline, latents, time, prompts)

    return forward


def make_latents(pipeline: Pipeline, count: int) -> torch.Tensor:
    config = pipeline.unet.config
    shape = (count, config.in_channels, config.sample_size, config.sample_size)
    latents = torch.randn(shape, device=pipeline.device, dtype=pipeline.unet.dtype)
    return latents.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def count_flops(pipeline: Pipeline, text: Text) -> int:
    """FLOPs of a pass of one image: two for each product that is summed up."""
    time = torch.zeros((), dtype=torch.long, device=pipeline.device)
    with FlopCounterMode(display=False) as counter:
        predict(pipeline, make_latents(pipeline, 1), time, text.rows([0]))

    return counter.get_total_flops()

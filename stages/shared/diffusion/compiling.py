"""The UNet compiled by torch.compile: fewer, larger kernels on a GPU, after a minute or more.

A compiled UNet sums in another order: its results differ from the eager one's in their last bits,
and are the same from run to run. Each shape of a batch is compiled by itself, so batches must be
whole.
"""

from stages.shared.diffusion.base_model import Pipeline


def compile_unet(pipeline: Pipeline) -> None:
    """Compile the UNet in place; the first forward pass of each shape then takes its time.

    Without autotuning, whose choice of kernels could differ from run to run.
    """
    pipeline.unet.compile(dynamic=False, fullgraph=True)

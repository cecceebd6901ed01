"""What fine-tuning shows of itself while it runs: losses, and pictures of what it has learned."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from diffusers.utils import make_image_grid
from PIL import Image

from stages.shared.diffusion.base_model import Pipeline
from stages.shared.running.runtime import sample_steps
from stages.shared.watching.tracking import Tracker

SECONDS = 10  # between two looks at the losses, each of which a GPU is waited for
PICTURES = 8  # at most, of as many classes
COLUMNS = 4
STEPS = 25
GUIDANCE = 5.0


class Watcher:
    """Gives a tracker each step's loss, and a picture every so many steps.

    It draws from generators of its own: with it and without it, training computes the same.
    """

    def __init__(
        self,
        tracker: Tracker,
        pipeline: Pipeline,
        prompts: list[str],
        resolution: int,
        told: int = 0,
    ):
        self.tracker = tracker
        self.pipeline = pipeline
        self.prompts = prompts[:PICTURES]
        self.resolution = resolution
        self.told = told  # how many losses the tracker has
        self.looked = time.monotonic()

    def look(self, losses: Sequence[Any]) -> None:
        """Called after each step, with the losses of all steps so far."""
        every = sample_steps()
        draws = every and len(losses) % every == 0

        # losses before the picture of a later step: some services take no step that lies behind
        if self.tracker.loggers and (draws or time.monotonic() - self.looked >= SECONDS):
            self.tell(losses)
        if draws:
            self.tracker.picture("samples", self.draw(), len(losses))

    def tell(self, losses: Sequence[Any]) -> None:
        """Give the tracker what it lacks of the losses."""
        for step in range(self.told, len(losses)):
            self.tracker.log({"loss": float(losses[step])}, step)

        self.told = len(losses)
        self.looked = time.monotonic()

    @torch.no_grad()
    def draw(self) -> Image.Image:
        """One picture a class from noise that is always the same, in rows of COLUMNS."""
        dtype = self.pipeline.unet.conv_in.weight.dtype
        device = self.pipeline.device.type
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(self.prompts))]

        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            drawn = self.pipeline(
                self.prompts,
                height=self.resolution,
                width=self.resolution,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                generator=generators,
            ).images

        columns = min(len(drawn), COLUMNS)
        blank = Image.new("RGB", drawn[0].size)
        cells = [*drawn, *[blank] * (-len(drawn) % columns)]
        return make_image_grid(cells, len(cells) // columns, columns)

"""Reuse of the UNet's deep features from step to step, as in DeepCache (Ma et al., CVPR 2024).

What the deep blocks compute changes little from a step to the next (Sec. 3.2). So they are computed
at a step and given again at the following ones, at which only the outermost blocks run: the first
of the way down and the last of the way up, which see the latents themselves.
"""

from collections.abc import Iterator
from typing import Any

from diffusers import UNet2DConditionModel
from diffusers.hooks import HookRegistry, ModelHook
from torch import nn

HOOK = "reuse_features"


class Reuse(ModelHook):
    """Gives a block's last output again, unless it is due to be computed."""

    def __init__(self, interval: int):
        super().__init__()
        self.interval = interval
        self.step = 0  # since the last one that began anew
        self.is_due = True
        self.output: Any = None

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """What diffusers calls instead of the block."""
        if self.is_due:
            self.output = self.fn_ref.original_forward(*args, **kwargs)
        return self.output

    def advance(self, anew: bool) -> None:
        # the flag is set here: a compiled UNet would be compiled again for each number of a step
        self.step = 0 if anew else self.step + 1
        self.is_due = self.step % self.interval == 0


def reuse_features(unet: UNet2DConditionModel, interval: int | None) -> None:
    """Compute the deep features at every `interval`-th step from now on; None: at each."""
    for registry in deep_registries(unet):
        registry.remove_hook(HOOK)
        if interval is not None:
            registry.register_hook(Reuse(interval), HOOK)


def advance_features(unet: UNet2DConditionModel, anew: bool) -> None:
    """Go on to the next step, before the UNet's forward pass.

    anew: it is the first of a batch, or of another number of images than the last, so that there is
    nothing to give again.
    """
    for registry in deep_registries(unet):
        hook = registry.get_hook(HOOK)
        if isinstance(hook, Reuse):
            hook.advance(anew)


def deep_registries(unet: UNet2DConditionModel) -> Iterator[HookRegistry]:
    """The hooks of all blocks but the outermost; some UNets have none in the middle."""
    for block in (*unet.down_blocks[1:], unet.mid_block, *unet.up_blocks[:-1]):
        if block is not None:
            yield HookRegistry.check_if_exists_or_initialize(block)

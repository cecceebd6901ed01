"""How often torch.compile has compiled a UNet."""

import pytest
from diffusers import UNet2DConditionModel
from torch._dynamo.testing import CompileCounterWithBackend


def count_compilations(monkeypatch: pytest.MonkeyPatch) -> CompileCounterWithBackend:
    """Counts, in `frame_count`, what UNets that are compiled from now on compile."""
    counter = CompileCounterWithBackend("inductor")
    compile_module = UNet2DConditionModel.compile
    monkeypatch.setattr(
        UNet2DConditionModel, "compile",
        lambda unet, **options: compile_module(unet, backend=counter, **options),
    )  # fmt: skip

    return counter

"""A packed classifier as ONNX, for programs without PyTorch; an extra: pip install '.[onnx]'."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from stages.shared.errors import BadInput
from stages.shared.serving.packed import Packed

NAME = "model.onnx"


def check_installed() -> None:
    """Raises BadInput where the extra's packages are missing."""
    for name in ("onnx", "onnxscript"):
        if find_spec(name) is None:
            raise BadInput(f"{name}: is not installed; `pip install '.[onnx]'`")


def write_onnx(packed: Packed, folder: Path) -> None:
    """Write model.onnx: uint8 pixels (images, 3, side, side) to probabilities (images, classes)."""
    network = nn.Sequential(packed.network, nn.Softmax(1)).cpu().eval()
    side = packed.config.resolution
    pixels = torch.zeros(2, 3, side, side, dtype=torch.uint8)

    torch.onnx.export(
        network,
        (pixels,),
        folder / NAME,
        input_names=["pixels"],
        output_names=["probabilities"],
        dynamic_shapes=({0: torch.export.Dim("images")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )

"""A training's state on disk, for going on after an interruption."""

import io
from pathlib import Path
from typing import Any

import torch

from stages.shared.errors import BadInput


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write to a new file, then rename: a kill leaves the old one or the new one."""
    buffer = io.BytesIO()  # not straight to the file: of a full disk torch says nothing that can be understood
    torch.save(state, buffer)
    path.with_suffix(".new").write_bytes(buffer.getbuffer())
    path.with_suffix(".new").replace(path)


def load_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """Nothing in it is run, as a pickle's content would be; raises BadInput for what is none of ours."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # of many types: not a zip, truncated, or an object that is no tensor
        reason = " ".join(str(error).split()).partition(".")[0][:120]
        raise BadInput(f"{path}: is no checkpoint ({reason}); remove it, then run again") from None

"""A training's state on disk, for going on after an interruption."""

import io
from pathlib import Path
from typing import Any

import torch

from stages.shared.errors import BadInput


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write to a new file, then rename: a kill leaves the old one or the new one."""
    # not straight to the file: torch's error for a full disk cannot be understood
    buffer = io.BytesIO()
    torch.save(state, buffer)

    new = path.with_suffix(".new")
    new.write_bytes(buffer.getbuffer())
    new.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load tensors only, never code, to the CPU; raises BadInput for any other file.

    To the CPU, since a GPU would hold the state twice while it is taken over.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # of many types: not a zip, truncated, or an object that is no tensor
        reason = " ".join(str(error).split()).partition(".")[0][:120]
        raise BadInput(
            f"{path}: is not a checkpoint ({reason}); remove it, then run again"
        ) from None

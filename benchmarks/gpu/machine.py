"""What a number was measured on: the card with its clocks, and the libraries."""

import os
import re
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import torch

from experiments.reproducing.environment import processor, settings
from stages.shared.running.runtime import cores, device, precision, training_precision

LIBRARIES = ("torch", "torchvision", "diffusers", "transformers", "peft", "accelerate")
CARD = (
    "driver_version",
    "clocks.sm",
    "clocks.max.sm",
    "clocks.mem",
    "power.limit",
    "temperature.gpu",
)


def device_name() -> str:
    return torch.cuda.get_device_name(device()) if device().type == "cuda" else "CPU"


def file_name(sizes: str) -> str:
    """The name of the results' file, such as nvidia-h100-80gb-hbm3.json."""
    words = re.findall(r"[a-z0-9]+", device_name().lower())
    tiny = [] if sizes == "full" else [sizes]
    return "-".join([*words, *tiny]) + ".json"


def describe() -> dict[str, Any]:
    """The machine as JSON takes it."""
    return {
        "device": device_name(),
        "memory_gib": memory(),
        "clocks_before": read_card(),
        "processor": processor(),
        "cores": cores(),
        "python": sys.version.split()[0],
        "libraries": {name: version(name) for name in LIBRARIES},
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "precision": str(precision()),
        "training_precision": str(training_precision()),
        "settings": settings(os.environ) or "none",
        "commit": ask("git", "rev-parse", "--short", "HEAD"),
    }


def memory() -> float | None:
    if device().type != "cuda":
        return None
    return round(torch.cuda.get_device_properties(device()).total_memory / 2**30, 1)


def read_card() -> dict[str, str] | None:
    """What nvidia-smi says of the card; nothing where it is not there or does not know."""
    if device().type != "cuda":
        return None

    words = ("nvidia-smi", f"--query-gpu={','.join(CARD)}", "--format=csv,noheader")
    card = str(torch.cuda.get_device_properties(device()).uuid)
    # a part of a card has a name of its own there: then the first card's
    values = ask(*words, "--id", f"GPU-{card}") or ask(*words)
    found = [value.strip() for value in (values or "").split(",")]
    return dict(zip(CARD, found, strict=True)) if len(found) == len(CARD) else None


def ask(*words: str) -> str | None:
    """The first line that a command says; none where it fails."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None

    return next(iter(done.stdout.strip().splitlines()), None)

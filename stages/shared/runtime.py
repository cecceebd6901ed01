"""Runtime knobs: how a stage runs, not what it computes. All from the environment, with automatic defaults.

Under equal settings results are equal to the bit; between devices, precisions and batch sizes, to rounding.

DIFFMIX_DEVICE     cpu, cuda, cuda:1, mps          (default: the first GPU, else the CPU)
DIFFMIX_PRECISION  fp32, fp16, bf16                (default: fp16 on a GPU, fp32 on a CPU; diffusion and CLIP only)
DIFFMIX_BATCH      images a forward pass           (default: 32)
DIFFMIX_WORKERS    processes that decode images    (default: by cores for large images, none for small ones)
"""

import os

import torch

from stages.shared.errors import BadInput

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def device() -> torch.device:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    name = os.environ.get("DIFFMIX_DEVICE", automatic)
    try:
        return torch.device(name)
    except RuntimeError:
        raise BadInput(f"DIFFMIX_DEVICE: {name!r} is no device; take cpu, cuda or cuda:1, or unset it") from None


def precision() -> torch.dtype:
    name = os.environ.get("DIFFMIX_PRECISION", "fp32" if device().type == "cpu" else "fp16")
    if name not in PRECISIONS:
        raise BadInput(f"DIFFMIX_PRECISION: {name!r} is none of {', '.join(PRECISIONS)}; unset it for the default")
    return PRECISIONS[name]


def batch_size() -> int:
    return _positive("DIFFMIX_BATCH", 32)


def workers(resolution: int) -> int:
    """Decoding 32 pixels costs less than shipping them between processes."""
    automatic = 0 if resolution < 128 else min(8, os.cpu_count() or 1)
    return _positive("DIFFMIX_WORKERS", automatic, least=0)


def _positive(name: str, default: int, least: int = 1) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit() or int(text) < least:
        raise BadInput(f"{name}: {text!r} is not a number of at least {least}; unset it for the default")
    return int(text)


def seed_everything(seed: int) -> None:
    """Seed torch and ask it for deterministic kernels."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for that
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)

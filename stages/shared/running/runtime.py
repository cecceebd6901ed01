"""Runtime knobs: how a stage runs, not what it computes. All from the environment, with automatic defaults.

DIFFMIX_DEVICE      cpu, cuda, cuda:1, mps         (default: the first GPU, else the CPU)
DIFFMIX_PRECISION   fp32, fp16, bf16               (default: fp16 on a GPU, fp32 on a CPU, for synthesis and CLIP;
                                                    bf16 on a GPU that has it, else fp32, for whatever is trained,
                                                    also where this says fp16)
DIFFMIX_WORKERS     processes that decode images   (default: by cores for large images, none for small ones)
DIFFMIX_CHECKPOINT  seconds between checkpoints    (default: 60)
DIFFMIX_DETERMINISTIC  0 lets a GPU take kernels whose last bits differ from run to run (default: 1)
DIFFMIX_LAUNCHER    what starts several processes  (default: none; see stages/shared/running/processes.py)

Device, precision and determinism move a result's last bits, and so does the number of processes in fine-tuning, whose
gradients are summed in another order. The rest do not, nor does the number of cores: every process has the same
threads, and how many images a forward pass holds is a parameter or `BATCH`.
"""

import os

import torch
from torch import Tensor

from stages.shared.errors import BadInput

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
BATCH = (
    32  # images a forward pass, of the networks that look at images: another would move last bits
)
THREADS = (
    2  # of a process, on a CPU: another number cuts sums otherwise; more cores take more processes
)


def device() -> torch.device:
    automatic = "cuda" if torch.cuda.is_available() else "cpu"
    name = os.environ.get("DIFFMIX_DEVICE", automatic)
    try:
        found = torch.device(name)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise BadInput(
            f"DIFFMIX_DEVICE: {name!r} is no device here; take cpu, cuda or cuda:1, or unset it"
        ) from None
    return found


def precision() -> torch.dtype:
    """Of networks that only look or draw."""
    name = os.environ.get("DIFFMIX_PRECISION", "fp32" if device().type == "cpu" else "fp16")
    if name not in PRECISIONS:
        raise BadInput(
            f"DIFFMIX_PRECISION: {name!r} is none of {', '.join(PRECISIONS)}; unset it for the default"
        )
    return PRECISIONS[name]


def training_precision() -> torch.dtype:
    """Of what is trained: gradients need fp32's range, which bf16 has, but not fp16, whoever asks for it."""
    if "DIFFMIX_PRECISION" in os.environ and precision() != torch.float16:
        return precision()
    native = device().type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def workers(resolution: int) -> int:
    """Decoding 32 pixels costs less than shipping them between processes."""
    return _count("DIFFMIX_WORKERS", 0 if resolution < 128 else min(8, cores()))


def cores() -> int:
    """Those that this process may use: a cluster's scheduler binds it to some of the machine's."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checkpoint_seconds() -> int:
    return _count("DIFFMIX_CHECKPOINT", 60)


def _count(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise BadInput(
            f"{name}: {text!r} is not a whole number of at least 0; unset it for the default"
        )
    return int(text)


def to_device(tensor: Tensor, place: torch.device) -> Tensor:
    """The tensor there, without waiting for a GPU, as a copy from unpinned memory would."""
    return (
        tensor.pin_memory().to(place, non_blocking=True)
        if place.type == "cuda"
        else tensor.to(place)
    )


def seed_everything(seed: int) -> None:
    """Seed torch, ask it for deterministic kernels, and fix its threads.

    On a GPU an operation without one is an error: where torch may only warn, attention stays random in its last bits.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for that
    fix_threads()
    torch.manual_seed(seed)
    on_gpu = device().type == "cuda"
    free = on_gpu and os.environ.get("DIFFMIX_DETERMINISTIC", "1") == "0"
    torch.use_deterministic_algorithms(not free, warn_only=not on_gpu)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing reads it


def fix_threads() -> None:
    """The same number on every machine, whatever launchers, OMP_NUM_THREADS or the cores suggest."""
    torch.set_num_threads(THREADS)

"""Runtime knobs: how a stage runs, not what it computes.

All are environment variables with automatic defaults:

    Variable               Values                          Default
    DIFFMIX_DEVICE         cpu, cuda, cuda:1, mps          the first GPU, else the CPU
    DIFFMIX_PRECISION      fp32, fp16, bf16                see below
    DIFFMIX_WORKERS        processes that decode images    by cores for large images, else none
    DIFFMIX_CHECKPOINT     seconds between checkpoints     60
    DIFFMIX_DETERMINISTIC  0, 1                            1
    DIFFMIX_COMPILE        0, 1                            1 for long work on a GPU, else 0
    DIFFMIX_SAVE_MEMORY    0, 1                            1 on a GPU of less than SMALL GiB, else 0
    DIFFMIX_STORE          GiB of finished images          4 on a CPU, else 0; see running/store.py
    DIFFMIX_LAUNCHER       what starts several processes   none; see running/processes.py
    DIFFMIX_TRACK          tensorboard, wandb, dvclive, …  none; see watching/tracking.py
    DIFFMIX_SAMPLES        steps of fine-tuning a picture  0, no pictures; see diffusion/watching.py

The default precision of synthesis and CLIP is fp16 on a GPU and fp32 on a CPU. Whatever is trained
has bf16 on a GPU that has it, else fp32, also where DIFFMIX_PRECISION says fp16. Determinism of 0
lets a GPU take kernels whose last bits differ from run to run.

Saving memory takes time: activations are computed anew for the gradients.

Device, precision, determinism, compilation and saved memory move a result's last bits. So does the
number of processes where they share a batch, since numbers are added in another order: in
fine-tuning, and in training a classifier where there are more processes than trials. The rest do
not, nor does the number of cores: every process has the same threads, and how many images a forward
pass holds is a parameter or `BATCH`.
"""

import ctypes
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from stages.shared.errors import BadInput

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

# images or prompts a forward pass of CLIP, of the text encoders and of the networks that measure;
# another number would move last bits
BATCH = 32
# forward passes of the UNet from which on compiling it, which takes a minute or two, is worth it:
# at 20 a second or less on a GPU, ten minutes' work
LONG = 10_000
SMALL = 12  # GiB of a GPU's memory: with less, Stable Diffusion's fine-tuning needs to save it
# of a process, on a CPU; another number would split sums otherwise: more cores take more processes
# (see running/forks.py), which for small networks is faster, too
THREADS = 1

# malloc.h's names for what `mallopt` sets
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3


def device() -> torch.device:
    """The device that DIFFMIX_DEVICE names; raises BadInput for one that this machine lacks."""
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
    """Number type for inference: CLIP, and the base in synthesis."""
    name = os.environ.get("DIFFMIX_PRECISION", "fp32" if device().type == "cpu" else "fp16")
    if name not in PRECISIONS:
        raise BadInput(
            f"DIFFMIX_PRECISION: {name!r} is none of {', '.join(PRECISIONS)}; "
            "unset it for the default"
        )

    return PRECISIONS[name]


def training_precision() -> torch.dtype:
    """Number type for training: fp32 or bf16, also where DIFFMIX_PRECISION says fp16.

    Gradients need fp32's range, which bf16 has and fp16 has not.
    """
    if "DIFFMIX_PRECISION" in os.environ and precision() != torch.float16:
        return precision()

    native = device().type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def workers(resolution: int) -> int:
    """How many processes decode images of `resolution` pixels a side.

    None by default for small ones: to decode them costs less than to move them between
    processes.
    """
    return _count("DIFFMIX_WORKERS", 0 if resolution < 128 else own_cores())


def own_cores() -> int:
    """How many cores' worth of threads or workers a process may keep busy; 16 feed any GPU."""
    return max(min(cores() // local_processes(), 16), 1)


def thread_pool() -> ThreadPoolExecutor:
    """Threads that read and write beside this process's own device."""
    if device().type != "cuda":
        return ThreadPoolExecutor(own_cores())

    # a thread that knew of no device would take memory on the first one
    own = torch.cuda.current_device()
    return ThreadPoolExecutor(own_cores(), initializer=torch.cuda.set_device, initargs=(own,))


def local_processes() -> int:
    """How many processes a launcher has started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores() -> int:
    """How many cores this process may use: a cluster's scheduler may give it fewer than exist."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def checkpoint_seconds() -> int:
    """How many seconds of training may lie between two checkpoints."""
    return _count("DIFFMIX_CHECKPOINT", 60)


def sample_steps() -> int:
    """How many steps of fine-tuning lie between two pictures of what it has learned; 0 for none."""
    return _count("DIFFMIX_SAMPLES", 0)


def compiles(passes: int) -> bool:
    """Whether the UNet is compiled for so many forward passes: on a GPU, where they are many."""
    automatic = device().type == "cuda" and passes >= LONG
    return _count("DIFFMIX_COMPILE", int(automatic)) > 0


def saves_memory() -> bool:
    """Whether memory is saved at the cost of time."""
    total = float("inf")
    if device().type == "cuda":
        total = torch.cuda.get_device_properties(device()).total_memory / 2**30

    return _count("DIFFMIX_SAVE_MEMORY", int(total < SMALL)) > 0


def store_bytes() -> int:
    """How much the store of finished images may take.

    None by default on a GPU: there it is not known that an image has the same bits beside others,
    which is what sharing single images rests on.
    """
    return _count("DIFFMIX_STORE", 4 if device().type == "cpu" else 0) << 30


def _count(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdecimal():
        raise BadInput(
            f"{name}: {text!r} is not a whole number of at least 0; unset it for the default"
        )

    return int(text)


def to_device(tensor: Tensor, target: torch.device) -> Tensor:
    """The tensor on `target`, without waiting for a GPU, as a copy from unpinned memory would."""
    if target.type == "cuda":
        return tensor.pin_memory().to(target, non_blocking=True)
    return tensor.to(target)


def to_host(tensor: Tensor) -> tuple[Tensor, Callable[[], object]]:
    """A copy on the CPU, and what to call before it is read: a GPU may still be at work on it."""
    if tensor.device.type != "cuda":
        return tensor.cpu(), lambda: None

    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    copied = torch.cuda.Event(blocking=True)  # whoever waits leaves the core to others
    copied.record()
    return host, copied.synchronize


def is_deterministic() -> bool:
    """Whether only kernels are taken whose last bits are the same in every run."""
    return device().type != "cuda" or os.environ.get("DIFFMIX_DETERMINISTIC", "1") != "0"


def hardware() -> str:
    """What moves a result's last bits, beside number types: the processor, and how it is used."""
    kind = torch.backends.cpu.get_cpu_capability()
    if device().type == "cuda":
        kind = torch.cuda.get_device_name(device())

    ways = "" if is_deterministic() else " free"
    ways += " saving" if saves_memory() else ""
    return f"{device().type} {kind}{ways}"


def seed_everything(seed: int) -> None:
    """Seed torch, ask it for deterministic kernels, and fix its threads.

    On a GPU an operation without such a kernel is an error: where torch may only warn, the last
    bits of attention's gradients differ from run to run.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only so
    fix_threads()
    torch.manual_seed(seed)

    strict = is_deterministic()
    torch.use_deterministic_algorithms(strict, warn_only=device().type != "cuda")
    torch.backends.cudnn.benchmark = not strict

    # nothing reads uninitialised memory, and filling it takes time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def fix_threads() -> None:
    """Set THREADS on every machine, whatever launchers, OMP_NUM_THREADS or the cores suggest."""
    torch.set_num_threads(THREADS)


def keep_memory() -> None:
    """Let glibc keep freed blocks, instead of giving each large one back to the system.

    Tensors of a training step are allocated anew in every step: giving them back and forth took a
    quarter of the CPU time of training a small network, as page faults.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "mallopt"):
        return

    libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the largest that glibc takes
    libc.mallopt(M_TRIM_THRESHOLD, 1 << 30)

"""What a result may depend on beside code, parameters and data.

These are the processor, the libraries, the threads, and settings in environment variables.
"""

import os
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import torch

from stages.shared.running.runtime import THREADS
from stages.shared.running.work import LIBRARIES

SETTINGS = ("DIFFMIX_", "OMP_", "MKL_", "CUDA_", "CUBLAS_")  # what environment variables begin with
VECTORS = (
    "avx",
    "amx",
    "fma",
    "neon",
    "asimd",
    "sve",
)  # what flags of vector instructions begin with
PROCESSORS = Path("/proc/cpuinfo")
Environment = dict[str, str]


def describe() -> Environment:
    """The surroundings of this process, and of a stage that it starts, in words."""
    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "vector flags": vector_flags(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": f"{THREADS} of a process, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "libraries": ", ".join(f"{name} {version(name)}" for name in LIBRARIES),
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "settings": settings(os.environ) or "none",
    }


def settings(variables: Mapping[str, str]) -> str:
    """The variables that may change a result, with their values."""
    names = sorted(name for name in variables if name.startswith(SETTINGS))
    return " ".join(f"{name}={variables[name]}" for name in names)


def processor() -> str:
    """The processor's model, where the system tells it."""
    return read_cpuinfo(r"model name") or platform.processor() or "unknown"


def vector_flags() -> str:
    """The kinds of vector instructions that the processor has: kernels are chosen by them."""
    flags = read_cpuinfo(r"flags|Features").split()
    return " ".join(sorted(flag for flag in flags if flag.startswith(VECTORS))) or "unknown"


def read_cpuinfo(field: str) -> str:
    """The field's value for the first processor; empty where Linux does not tell."""
    text = PROCESSORS.read_text() if PROCESSORS.is_file() else ""
    match = re.search(rf"^(?:{field})\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else ""

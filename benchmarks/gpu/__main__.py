"""Measures the pipeline's work on a GPU beside the same done as the official code does it.

    python -m benchmarks.gpu                    `make bench`; see docs/gpu.md
    python -m benchmarks.gpu --tiny             tiny networks, on a CPU, too: does it run?
    python -m benchmarks.gpu --only "UNet alone" kernels        groups by their titles

Prints one JSON line a case, then a table, and writes metrics/gpu/<device>.json. No case is begun
after the budget. Weights are random, and nothing is fetched.
"""

import argparse
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.gpu.requirements import missing

# read when the libraries are imported, which is later
SETTINGS = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
BUDGET = 480.0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--tiny", action="store_true", help="tiny networks: does everything run?")
    parser.add_argument("--budget", type=float, default=BUDGET, help="seconds (default 480)")
    parser.add_argument("--only", nargs="+", help="titles of the groups to run")
    parser.add_argument("--output", type=Path, help="folder of the results (metrics/gpu)")
    return parser.parse_args()


def main() -> None:
    began = time.monotonic()
    if lacking := missing():
        names = " ".join(lacking)
        raise SystemExit(f"benchmarks.gpu: this Python lacks packages; pip install {names}")

    given = parse_arguments()
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)

    # imported here because it takes seconds, and a refusal should not wait for it
    if not given.tiny:
        check_device()
    from benchmarks.gpu.running import run
    from benchmarks.gpu.timing import Budget

    budget = Budget(given.budget, began)
    with TemporaryDirectory(prefix="bench-") as folder:
        run(given.tiny, budget, given.only, given.output, Path(folder))


def check_device() -> None:
    """Ends the process where there is no GPU."""
    from stages.shared.running.runtime import device

    if device().type != "cuda":
        raise SystemExit(
            f"benchmarks.gpu: {device()} is no GPU, where this would take days; "
            "add --tiny to try whether everything runs"
        )


if __name__ == "__main__":
    main()

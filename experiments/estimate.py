"""Say what a run takes before it is begun: images, hours a stage, GPU memory, disk and its price.

    python -m experiments.estimate                                  params.yaml of the workspace
    python -m experiments.estimate --preset cub-5-shot --base FOLDER --processes 4 --json FILE

Images are counted before there is data, as the paper's Table 8 has them (estimating/counts.py). A
batch of each part of the work is timed on this machine, with the setting's own models and sizes
(estimating/calibration.py), and hours follow by multiplication (estimating/costs.py). The price is
said where the environment variable GPU_PRICE holds that of an hour of one GPU, in any currency.
"""

import argparse
import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.estimating.counts import count
from experiments.tables.recipes import PRESETS, Tree, read_preset
from stages.check import check
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.params import PATH, read

NOUN = "object"  # where a preset leaves the metaclass to its user: it changes no hours


def read_tree(preset: str | None, base: str | None) -> tuple[Path, Tree]:
    """The parameters of the preset or of the workspace, and the file that they are from.

    base: a folder with another base model.
    """
    path = PRESETS / f"{preset}.yaml" if preset else PATH
    tree = read_preset(preset) if preset else read()
    if preset and tree["data"]["metaclass"] is None:
        tree["data"]["metaclass"] = NOUN

    if base is not None:
        if not os.path.isdir(base):
            raise BadInput(
                f"--base: there is no folder {base}; "
                "name one that holds a Stable Diffusion pipeline"
            )
        tree = tree | {"base": {"id": base, "revision": None}}

    try:
        check(tree)
    except BadInput as error:
        raise BadInput(str(error).replace(f"{PATH}: ", f"{path}: ", 1)) from None

    return path, tree


def read_gpu_price() -> float | None:
    """What an hour of a GPU costs, by the environment variable GPU_PRICE; None where it is not set.

    Raises BadInput for what is no positive number.
    """
    text = os.environ.get("GPU_PRICE")
    if text is None:
        return None

    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise BadInput(
            f"GPU_PRICE: {text!r} is no positive number; "
            "give what a GPU costs an hour, say 2.5, or unset it"
        )

    return price


def estimate(path: Path, tree: Tree, processes: int, output: Path | None) -> None:
    """Print what there is to do, then what it costs; write the latter as JSON, too, if asked to."""
    gpu_price = read_gpu_price()
    counts = count(tree)
    batch = tree["finetune"]["batch"]
    if counts.method.strategy != "none" and processes > batch:
        raise BadInput(
            f"--processes: {processes} cannot share finetune.batch, which is {batch}; ask for fewer"
        )

    # imported here because they take seconds, and a refusal should not wait for them
    from experiments.estimating.calibration import calibrate
    from experiments.estimating.costs import Task
    from experiments.estimating.page import content, show_costs, show_counts
    from stages.shared.running import forks

    print(f"{path}: {tree['method']} on {tree['data']['name']}\n", flush=True)
    print(f"{show_counts(tree, counts)}\n", flush=True)
    with TemporaryDirectory(prefix="estimate-") as scratch:
        rates = calibrate(tree, counts, Path(scratch))

    cores = forks.cores() if forks.forks() else 1
    found = content(Task(tree, counts, rates, processes, cores, gpu_price))
    print(show_costs(found))
    if output is not None:
        write_json(output, {"params": str(path)} | found)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.estimate", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--preset", help="of presets/, without .yaml; default: params.yaml")
    parser.add_argument("--base", metavar="FOLDER", help="holds a base model, instead of base.id")
    parser.add_argument("--processes", type=int, default=1, help="the hours of so many, too")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the estimate there, too")
    given = parser.parse_args()

    if given.processes < 1:
        raise BadInput(
            f"--processes: {given.processes} is not at least 1; give the number of GPUs, say"
        )
    if given.json is not None and (given.json.is_dir() or not given.json.parent.is_dir()):
        raise BadInput(f"--json: {given.json} is no file in a folder that exists; name another")

    path, tree = read_tree(given.preset, given.base)
    estimate(path, tree, given.processes, given.json)


if __name__ == "__main__":
    main()

"""Before hours of a GPU are spent: images, hours a stage, memory and disk, from the plan and a minute's calibration.

    python -m experiments.estimate                                  params.yaml of the workspace
    python -m experiments.estimate --preset cub-5-shot --base FOLDER --processes 4 --json FILE

Images are counted before there is data, as the paper's Table 8 has them (estimating/counts.py). What a part of the
work costs is measured on this machine, with the setting's own base, resolutions and batches (calibration.py), and
hours follow by multiplication (costs.py).
"""

import argparse
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.estimating.counts import count
from experiments.tables.recipes import PRESETS, Tree, read_preset
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.params import PATH, read


def read_tree(preset: str | None, base: str | None) -> tuple[Path, Tree]:
    """The preset's parameters or the workspace's, with another base where one is named; and the file they are from."""
    path = PRESETS / f"{preset}.yaml" if preset else PATH
    tree = read_preset(preset) if preset else read()
    if base is None:
        return path, tree
    if not os.path.isdir(base):
        raise BadInput(
            f"--base: there is no folder {base}; name one that holds a Stable Diffusion pipeline"
        )
    return path, tree | {"base": {"id": base, "revision": None}}


def check_output(path: Path | None) -> None:
    """Raises BadInput for what cannot be written, before anything is measured."""
    if path is not None and (path.is_dir() or not path.parent.is_dir()):
        raise BadInput(f"--json: {path} is no file in a folder that exists; name another")


def estimate(path: Path, tree: Tree, processes: int, output: Path | None) -> None:
    """Print what there is to do, then what it costs."""
    counts = count(tree, path)
    # imported here because they take seconds, and a refusal should not wait for them
    from experiments.estimating.calibration import calibrate
    from experiments.estimating.costs import Task, check_processes, lines, stores
    from experiments.estimating.page import Estimate, content, read_paper, show_costs, show_counts
    from experiments.estimating.setting import read_setting

    setting = read_setting(tree, path, counts.method)
    check_processes(setting, processes)
    print(
        f"{path}: {tree['method']} on {tree['data']['name']}\n\n{show_counts(counts, setting)}\n",
        flush=True,
    )
    with TemporaryDirectory(prefix="estimate-") as scratch:
        rates = calibrate(setting, counts, Path(scratch))
    task = Task(counts, setting, rates)
    found = Estimate(
        task, lines(task, processes), stores(task), read_paper(tree["method"]), processes
    )
    print(show_costs(found))
    if output is not None:
        write_json(output, {"params": str(path)} | content(found))
        print(f"\nwrote {output}")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.estimate", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--preset", help="a file of presets/, without .yaml; default: params.yaml of the workspace"
    )
    parser.add_argument(
        "--base", metavar="FOLDER", help="a local folder with the base model, instead of base.id"
    )
    parser.add_argument("--processes", type=int, default=1, help="hours of so many, too; default 1")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the estimate as JSON, too")
    given = parser.parse_args()
    if given.processes < 1:
        raise BadInput(
            f"--processes: {given.processes} is not at least 1; give the number of GPUs, say"
        )
    check_output(given.json)
    estimate(*read_tree(given.preset, given.base), given.processes, given.json)


if __name__ == "__main__":
    main()

"""Take a trained classifier out of the pipeline: a folder that works by itself.

Reads:  data/train/<arm>/{trial-<k>.safetensors,predictions.csv}, data/download/classes.csv,
        params.yaml, metrics/evaluate.json
Writes: FOLDER/{model.safetensors,config.json,README.md}, and model.onnx if asked for
Paper:  –

This is a tool, not a stage of the pipeline:

    python -m stages.pack ARM FOLDER            the arm's first trial
    python -m stages.pack ARM FOLDER --onnx     and the same as ONNX (pip install '.[onnx]')
"""

import json
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes
from stages.shared.methods import TITLES
from stages.shared.params import PATH, read
from stages.shared.paths import DOWNLOAD, METRICS, TRAIN
from stages.shared.serving.card import write_card
from stages.shared.serving.onnx import check_installed, write_onnx
from stages.shared.serving.packed import Config, load_packed, pack

UNKNOWN = "unknown"  # the commit of what is in no repository


def read_config(arm: str, trial: int) -> Config:
    """What params.yaml and the data say of a trained arm; raises BadInput where there is none."""
    params = read()
    arms = [name for group in params["arms"].values() for name in group]
    if arm not in arms:
        raise BadInput(f"{PATH}: there is no arm {arm!r} among {', '.join(arms)}")
    if not weights_of(arm, trial).is_file():
        raise BadInput(f"{weights_of(arm, trial)}: there is no such file; run `dvc repro` first")

    train = params["train"]
    return Config(
        architecture=train["architecture"],
        classes=list(read_classes(DOWNLOAD)["name"]),
        resize=train["resize"],
        resolution=train["resolution"],
        method=TITLES[params["method"]],
        arm=arm,
        trial=trial,
        top1=measure_trial(arm, trial),
        commit=current_commit(),
    )


def weights_of(arm: str, trial: int) -> Path:
    return TRAIN / arm / f"trial-{trial}.safetensors"


def measure_trial(arm: str, trial: int) -> float:
    """The trial's own top-1 on the test images, in percent."""
    rows = pd.read_csv(TRAIN / arm / "predictions.csv", dtype={"key": str, "group": str})
    own = rows[(rows["trial"] == trial) & (rows["split"] == "test")]
    return round(100 * float((own["label"] == own["predicted"]).mean()), 2)


def current_commit() -> str:
    """The commit that is checked out, with a + where files differ from it."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return done.stdout.strip()


def read_metrics(arm: str) -> dict[str, Any]:
    """What metrics/evaluate.json holds of the arm, over all of its trials."""
    path = METRICS / "evaluate.json"
    evaluation = json.loads(path.read_text()) if path.is_file() else {}
    own = evaluation.get("arms", {}).get(arm, {})
    return own | {"gain": evaluation.get("gain", {}).get(arm, {})}


def main() -> None:
    parser = ArgumentParser(
        prog="python -m stages.pack", description="Take a trained classifier out of the pipeline."
    )
    parser.add_argument("arm", help="an arm of params.yaml: diffmix, say")
    parser.add_argument("folder", type=Path, help="where to write it; new or empty")
    parser.add_argument("--trial", type=int, default=0, help="which of its trials (default: 0)")
    parser.add_argument("--onnx", action="store_true", help="write model.onnx, too")
    given = parser.parse_args()

    if given.folder.exists() and (not given.folder.is_dir() or any(given.folder.iterdir())):
        raise BadInput(f"{given.folder}: is not an empty folder; name a new one")

    if given.onnx:
        check_installed()

    config = read_config(given.arm, given.trial)
    pack(weights_of(given.arm, given.trial), config, given.folder)
    write_card(given.folder, config, read_metrics(given.arm))

    if given.onnx:
        write_onnx(load_packed(given.folder), given.folder)
    print(f"{given.folder}: try it with `python -m stages.predict {given.folder} IMAGE`")


if __name__ == "__main__":
    main()

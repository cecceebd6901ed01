"""Take what was trained out of the pipeline: a folder that works by itself, with a model card.

Reads:  for an arm, data/train/<arm>/{trial-<k>.safetensors,predictions.csv}, metrics/evaluate.json;
        for the fine-tuned model, data/finetune/, metrics/assess.json;
        data/download/classes.csv, params.yaml, dvc.lock
Writes: FOLDER/README.md, and of an arm model.safetensors, config.json, and model.onnx if asked for;
        of the model pytorch_lora_weights.safetensors, tokens/ and classes.csv
Paper:  –

This is a tool, not a stage of the pipeline:

    python -m stages.pack ARM FOLDER            a classifier: the arm's first trial
    python -m stages.pack ARM FOLDER --onnx     and the same as ONNX (pip install '.[onnx]')
    python -m stages.pack finetune FOLDER       LoRA and tokens, as diffusers loads them
    hf upload OWNER/NAME FOLDER --private       to the Hugging Face hub, by its own tool
"""

import hashlib
import json
import shutil
import subprocess
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML
from safetensors.torch import load_file

from stages.shared.errors import BadInput
from stages.shared.files import write_csv
from stages.shared.manifests import read_classes
from stages.shared.methods import TITLES
from stages.shared.params import PATH, read
from stages.shared.paths import DATA, DOWNLOAD, FINETUNE, METRICS, TRAIN
from stages.shared.serving.cards import Learned, describe_classifier, describe_model
from stages.shared.serving.onnx import check_installed, write_onnx
from stages.shared.serving.packed import Config, load_packed, pack

LOCK = Path("dvc.lock")
GROUPS = {"real": "train_real", "synthetic": "train"}  # the stages that train the groups of arms
CARD = "README.md"
MODEL = "finetune"  # what to pack, beside arms
UNKNOWN = "unknown"  # the commit of what is in no repository


def read_lock() -> dict[str, Any]:
    """What each stage has read and made when it was last run, by the stages' names."""
    return YAML(typ="safe").load(LOCK.read_text())["stages"] if LOCK.is_file() else {}


def read_locked(stage: str) -> dict[str, Any]:
    """The parameters that a stage was last run with; raises BadInput where it never was."""
    locked = read_lock()
    if stage not in locked:
        raise BadInput(f"{LOCK}: knows no stage {stage}; run `dvc repro` first")
    return locked[stage]["params"]["params.yaml"]


def is_settled(stage: str) -> bool:
    """Whether a stage, and each one before it, has read what the stages before it hold now.

    That is not so after a run that was broken off between two of them. A file in an output folder
    has no hash of its own in the lock, and is looked at itself.
    """
    locked = read_lock()
    made = {
        out["path"]: (name, out["md5"]) for name in locked for out in locked[name].get("outs", [])
    }
    seen = {stage}
    waiting = [stage]

    while waiting:
        for read_one in locked[waiting.pop()].get("deps", []):
            path = read_one["path"]
            maker, md5 = made.get(path, (None, None))
            if maker and read_one["md5"] != md5:
                return False
            if not maker and has_changed(Path(path), read_one["md5"]):
                return False
            if maker and maker not in seen:
                seen.add(maker)
                waiting.append(maker)

    return True


def has_changed(path: Path, md5: str) -> bool:
    """Whether a data file is there and is another than DVC has noted; code may change."""
    if path.parts[0] != DATA.name or not path.is_file():
        return False

    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != md5


def read_config(arm: str, trial: int) -> Config:
    """What an arm was trained with; raises BadInput where there is no such arm, or no such trial.

    That is what dvc.lock says: params.yaml may have been changed since.
    """
    arms = read()["arms"]
    group = next((name for name, members in arms.items() if arm in members), None)
    if group is None:
        known = ", ".join(name for members in arms.values() for name in members)
        raise BadInput(f"{PATH}: there is no arm {arm!r} among {known}")
    check_trial(arm, trial)

    stage = f"{GROUPS[group]}@{arm}"
    trained = read_locked(stage)
    sees_method = group == "synthetic" and is_settled(stage)
    return Config(
        architecture=trained["train.architecture"],
        classes=list(read_classes(DOWNLOAD)["name"]),
        resize=trained["train.resize"],
        resolution=trained["train.resolution"],
        method=TITLES[read_locked("method")["method"]] if sees_method else None,
        arm=arm,
        trial=trial,
        top1=measure_trial(arm, trial),
        commit=locked_commit(),
    )


def check_trial(arm: str, trial: int) -> None:
    """Raises BadInput where the arm was not trained, or has no such trial."""
    trained = list((TRAIN / arm).glob("trial-*.safetensors"))
    if not trained:
        raise BadInput(f"{TRAIN / arm}: holds no trained classifier; run `dvc repro` first")
    if weights_of(arm, trial) not in trained:
        raise BadInput(f"--trial {trial}: {arm} has the trials 0 to {len(trained) - 1}; name one")


def weights_of(arm: str, trial: int) -> Path:
    return TRAIN / arm / f"trial-{trial}.safetensors"


def measure_trial(arm: str, trial: int) -> float:
    """The trial's own top-1 on the test images, in percent."""
    rows = pd.read_csv(TRAIN / arm / "predictions.csv", dtype={"key": str, "group": str})
    own = rows[(rows["trial"] == trial) & (rows["split"] == "test")]
    return round(100 * float((own["label"] == own["predicted"]).mean()), 2)


def locked_commit() -> str:
    """The commit of the last run, which is dvc.lock's, with a + where the run is in none yet."""
    try:
        commit = git("log", "-1", "--format=%h", "--abbrev=12", "--", str(LOCK))
        changed = git("status", "--porcelain", "--", str(LOCK))
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN
    return f"{commit or UNKNOWN}{'+' if changed else ''}"


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.is_file() else {}


def pack_arm(arm: str, trial: int, folder: Path, onnx: bool) -> None:
    """Write a classifier's folder."""
    if onnx:
        check_installed()

    config = read_config(arm, trial)
    pack(weights_of(arm, trial), config, folder)

    evaluation = read_json(METRICS / "evaluate.json")
    measured = evaluation.get("arms", {}).get(arm, {})
    gain = evaluation.get("gain", {}).get(arm, {})
    card = describe_classifier(config, measured, gain, onnx)
    (folder / CARD).write_text(card, encoding="utf-8")

    if onnx:
        write_onnx(load_packed(folder), folder)


def pack_model(folder: Path) -> None:
    """Write the fine-tuned model's folder.

    Raises BadInput where nothing was learned: a method without fine-tuning, or no run yet.
    """
    learned = sorted(FINETUNE.rglob("*.safetensors"))
    if not learned:
        raise BadInput(f"{FINETUNE}: holds nothing that was learned; run `dvc repro` first")

    for path in learned:
        target = folder / path.relative_to(FINETUNE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)

    classes = read_classes(DOWNLOAD)
    write_csv(folder / "classes.csv", classes)

    tokens = [path for path in learned if path.parent != FINETUNE]
    model = Learned(
        params=read_locked("finetune"),
        method=TITLES[read_locked("method")["method"]],
        has_lora=len(tokens) < len(learned),
        encoders=len(load_file(tokens[0])) if tokens else 0,
        commit=locked_commit(),
    )
    card = describe_model(model, classes, read_json(METRICS / "assess.json"))
    (folder / CARD).write_text(card, encoding="utf-8")


def main() -> None:
    parser = ArgumentParser(
        prog="python -m stages.pack", description="Take what was trained out of the pipeline."
    )
    parser.add_argument("what", help="an arm of params.yaml (diffmix, say), or finetune")
    parser.add_argument("folder", type=Path, help="where to write it; new or empty")
    parser.add_argument("--trial", type=int, default=0, help="which of its trials (default: 0)")
    parser.add_argument("--onnx", action="store_true", help="write model.onnx, too")
    given = parser.parse_args()

    if given.folder.exists() and (not given.folder.is_dir() or any(given.folder.iterdir())):
        raise BadInput(f"{given.folder}: is not an empty folder; name a new one")

    if given.what == MODEL:
        pack_model(given.folder)
        print(f"{given.folder}: LoRA and tokens; README.md there says how to load them")
    else:
        pack_arm(given.what, given.trial, given.folder, given.onnx)
        print(f"{given.folder}: try it with `python -m stages.predict {given.folder} IMAGE`")


if __name__ == "__main__":
    main()

"""A trained arm without any training: random weights, and what stage train writes beside them."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from stages.shared.classifier.networks import build_network
from stages.shared.files import write_json
from stages.shared.manifests import write_classes
from stages.train import weights
from tests.support.closure import ROOT

NAMES = ["Dusk Lorrel", "Ærø / Quill", "Pintle"]
SIDE = 24
BASE = ROOT / "data/base/toybirds/pipeline"


def write_arm(folder: Path) -> torch.nn.Module:
    """params.yaml, dvc.lock, classes, metrics and the arm diffmix; returns its second trial's.

    Of the test images the first trial has a quarter right, the second three quarters.
    """
    shutil.copy(ROOT / "params.yaml", folder / "params.yaml")
    write_lock(folder)
    write_classes(folder / "data/download", NAMES, "bird")

    arm = folder / "data/train/diffmix"
    arm.mkdir(parents=True)
    for trial in range(2):
        torch.manual_seed(trial)
        network = build_network("small_resnet", len(NAMES), SIDE, pretrained=False)
        save_file(weights(network), arm / f"trial-{trial}.safetensors")

    lines = [
        (trial, split, f"k{number}", 1, 1 + (number >= right), "")
        for trial, right in ((0, 1), (1, 3))
        for split, right in (("test", right), ("ood", 0))
        for number in range(4)
    ]
    columns = ["trial", "split", "key", "label", "predicted", "group"]
    pd.DataFrame(lines, columns=columns).to_csv(arm / "predictions.csv", index=False)

    gain = {"top1": 5.65, "top1_ci": [3.57, 7.5]}
    evaluation = {"arms": {"diffmix": {"top1": 50.0}}, "gain": {"diffmix": gain}}
    write_json(folder / "metrics/evaluate.json", evaluation)
    return network.eval()


def write_lock(folder: Path, **finetune: object) -> None:
    """dvc.lock, as far as it says what was trained; `finetune` changes what it says of that."""
    trained = {"train.architecture": "small_resnet", "train.resize": 32, "train.resolution": SIDE}
    learned = {"base.id": str(BASE), "base.revision": None}
    learned |= {"finetune.lora_rank": 2, "finetune.steps": 900} | finetune
    stages = {"train@diffmix": trained, "method": {"method": "diff-mix"}, "finetune": learned}

    locked = {name: {"params": {"params.yaml": params}} for name, params in stages.items()}
    (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": locked}))


def draw_image(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)

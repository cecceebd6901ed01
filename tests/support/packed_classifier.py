"""A trained arm without any training: random weights, and what stage train writes beside them."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file

from stages.shared.classifier.networks import build_network
from stages.shared.files import write_json
from stages.shared.manifests import write_classes
from stages.train import weights
from tests.support.closure import ROOT

NAMES = ["Dusk Lorrel", "Ærø / Quill", "Pintle"]
SIDE = 24


def write_arm(folder: Path) -> torch.nn.Module:
    """params.yaml, classes, metrics and the arm diffmix with two trials; returns the second's.

    Of the test images the first trial has a quarter right, the second three quarters.
    """
    params = (ROOT / "params.yaml").read_text()
    params = params.replace("resize: 64 ", "resize: 32 ").replace(
        "resolution: 64 #", "resolution: 24 #"
    )
    (folder / "params.yaml").write_text(params)
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


def draw_image(seed: int, size: tuple[int, int] = (40, 30)) -> Image.Image:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)

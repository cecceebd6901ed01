"""A preset of the paper through the real `dvc repro`.

The dataset is tiny, and so is Stable Diffusion, which has its true layout.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.datasets.published import cub
from stages.shared.tables import Table
from tests.support import layouts
from tests.support.small_project import copy_project, dvc, ran
from tests.support.tiny_models import save_tiny

SPECIES = ["Black_footed_Albatross", "Laysan_Albatross", "Sooty_Albatross", "Groove_billed_Ani"]
# Three images of each class to train on, two to test.
IMAGES = [(label, f"{number}.jpg", number < 3) for label in range(4) for number in range(5)]
# Of Waterbirds, two of each group: path, water bird, split (test), water background.
SCENES = [
    (f"{label + 1:03d}.{SPECIES[label]}/{bird}{background}.jpg", bird, 2, background)
    for label, bird in ((0, 1), (1, 1), (2, 0), (3, 0)) for background in (0, 1)
]  # fmt: skip
# Changes sizes only, and where things lie.
SMALLER: dict[str, Any] = {
    "base.revision": None, "clip.id": "data/base/toybirds/clip", "clip.revision": None,
    "finetune.steps": 4, "finetune.resolution": 32, "synth.resolution": 32, "attention.images": 4,
    "train.architecture": "small_resnet", "train.pretrained": False, "train.resize": 36,
    "train.resolution": 32, "train.epochs": 2, "train.batch": 6, "train.trials": 2,
    "evaluate.bootstrap": 50,
}  # fmt: skip


def pack_archives(folder: Path) -> str:
    """Both archives as their sites have them; returns the checksum of CUB's."""
    birds = layouts.pack(layouts.cub_files(SPECIES, IMAGES))
    folder.mkdir()
    (folder / cub.CUB.name).write_bytes(birds)
    (folder / cub.WATERBIRDS.name).write_bytes(layouts.pack(layouts.waterbird_files(SCENES)))

    return f"sha256:{hashlib.sha256(birds).hexdigest()}"


@pytest.fixture(scope="module")
def waterbird(tmp_path_factory) -> tuple[Path, str]:
    """The project with presets/waterbird.yaml, run, and what DVC printed."""
    root = tmp_path_factory.mktemp("waterbird")
    paths = {"data.archive": str(root / "archives"), "base.id": str(save_tiny(root / "pipeline"))}
    (root / "project").mkdir()
    folder = copy_project(root / "project", SMALLER | paths, "presets/waterbird.yaml")

    # The copy expects the checksum of the small archive.
    checksum = pack_archives(root / "archives")
    module = folder / "stages/datasets/published/cub.py"
    module.write_text(module.read_text().replace(str(cub.CUB.checksum), checksum))

    return folder, dvc(folder, "repro")


def test_every_stage_and_arm_of_the_preset_ran(waterbird):
    assert ran(waterbird[1]) == {
        "check", "download", "subsample", "method", "finetune", "plan", "synthesize", "filter",
        "assess", "attention", "train_real@baseline", "train_real@cutmix", "train@diffmix",
        "evaluate", "report",
    }  # fmt: skip


def test_the_presets_own_values_make_the_images(waterbird):
    """Five for each of 12 real ones, at the paper's strengths; a tenth is dropped, 0.1 * 60."""
    data = waterbird[0] / "data"

    synthetic = Table(data / "synthesize")
    assert len(synthetic) == 60
    assert set(synthetic.rows["strength"]) == {0.5, 0.7, 0.9}
    assert synthetic.image(59).size == (32, 32)
    assert len(pd.read_csv(data / "filter/manifest.csv")) == 54

    assert len(pd.read_csv(data / "finetune/losses.csv")) == 4
    assert len(list((data / "finetune/tokens").iterdir())) == 4  # one a class: TI + DB
    assert (data / "finetune/pytorch_lora_weights.safetensors").is_file()


def test_all_arms_are_measured_on_the_test_images_and_on_all_groups_of_waterbird(waterbird):
    measured = json.loads((waterbird[0] / "metrics/evaluate.json").read_text())
    assert list(measured["arms"]) == ["baseline", "cutmix", "diffmix"]
    assert list(measured["gain"]) == ["cutmix", "diffmix"]

    groups = {"waterbird_water", "waterbird_land", "landbird_land", "landbird_water"}
    assert all(set(arm["waterbird"]["groups"]) == groups for arm in measured["arms"].values())

    answers = pd.read_csv(waterbird[0] / "data/train/diffmix/predictions.csv")
    assert answers.groupby(["trial", "split"]).size().to_dict() == {
        (0, "test"): 8, (1, "test"): 8, (0, "ood"): 8, (1, "ood"): 8,
    }  # fmt: skip


def test_the_report_shows_them(waterbird):
    page = (waterbird[0] / "metrics/report.html").read_text()
    assert all(word in page for word in ("diffmix", "waterbirds on land", "Laysan Albatross"))

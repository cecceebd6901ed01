"""A folder of photos through the real `dvc repro`.

Class names are awkward, and one photo cannot be read.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.support.small_project import copy_project, dvc

NAMES = ["a_b c", "d\"e'f", "Ünï, <b>çödé", "NA"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of twelve images in classes with awkward names, and the project set up for it."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for split, count in (("train", 2), ("test", 1)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.jpg")

    folder = copy_project(tmp_path_factory.mktemp("project"), {})
    params = yaml.safe_load((folder / "params.yaml").read_text())
    options = {"path": str(root), "test_share": 0.3}
    params["data"] |= {"name": "folder", "metaclass": "thing", "folder": options}
    params["finetune"]["strategy"] = "db"  # prompts with the classes' own names
    (folder / "params.yaml").write_text(yaml.safe_dump(params))

    return folder


def test_awkward_class_names_go_through_the_whole_path(photos):
    dvc(photos, "repro")

    per_class = pd.read_csv(photos / "metrics/per_class.csv", keep_default_na=False)
    assert sorted(per_class["class"]) == sorted(NAMES)

    page = (photos / "metrics/report.html").read_text()
    assert "Ünï, &lt;b&gt;çödé" in page
    assert "<b>çödé" not in page

    metrics = json.loads((photos / "metrics/evaluate.json").read_text())
    assert "waterbird" not in metrics["arms"]["baseline"]


def test_an_unreadable_photo_stops_with_its_name_and_results_stay_restorable(photos):
    params = yaml.safe_load((photos / "params.yaml").read_text())
    broken = Path(params["data"]["folder"]["path"]) / "train" / NAMES[0] / "9.jpg"
    broken.write_bytes(b"")

    output = dvc(photos, "repro", "download", status=255)
    assert f"{broken}: " in output
    assert "Traceback" not in output

    dvc(photos, "checkout")
    assert (photos / "data/download/train/manifest.csv").is_file()

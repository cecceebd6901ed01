"""A folder of photos through the real `dvc repro` and `dvc exp run`.

Class names are awkward, one photo cannot be read, and `data/photos` is a link to another disk.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.support.small_project import copy_project, dvc, run

NAMES = ["a_b c", "d\"e'f", "Ünï, <b>çödé", "NA"]


def write_photos(root: Path, names: list[str]) -> None:
    """Two images a class to train on, and one to test on."""
    rng = np.random.default_rng(0)
    for name in names:
        for split, count in (("train", 2), ("test", 1)):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (40, 30, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.jpg")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of twelve images in classes with awkward names, and the project set up for it."""
    root = tmp_path_factory.mktemp("photos")
    write_photos(root, NAMES)

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


def test_photos_may_be_a_link_to_another_disk_and_an_experiment_keeps_the_users_edits(tmp_path):
    disk = tmp_path / "disk"
    write_photos(disk, ["a", "b"])
    files = sorted(disk.rglob("*"))

    project = tmp_path / "project"
    project.mkdir()
    copy_project(project, {"data.name": "folder", "data.folder.path": "data/photos"})
    (project / "data/photos").symlink_to(disk)
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("seed: 0", "seed: 5"))

    dvc(project, "exp", "run", "-S", "synth.gamma=0.3", "subsample")

    assert "seed: 5" in params.read_text()
    assert run(project, "git", "stash", "list") == ""
    assert sorted(disk.rglob("*")) == files

    lock = yaml.safe_load((project / "dvc.lock").read_text())
    watched = {dep["path"]: dep for dep in lock["stages"]["download"]["deps"]}
    assert watched["data/photos"]["nfiles"] == 6

    (disk / "train/a/9.jpg").write_bytes(files[-1].read_bytes())
    assert "data/photos" in dvc(project, "status", "download")

"""Where torchvision reads a dataset, it is the reference.

From the same archives, unpacked, it gives the same images and labels.
"""

import io
import tarfile
from pathlib import Path

import pytest
from torchvision.datasets import FGVCAircraft, Flowers102, StanfordCars
from torchvision.datasets.voc import DATASET_YEAR_DICT

from stages.datasets.fetching.archives import Mirror
from stages.datasets.published import aircraft, flowers, pascal
from tests.stages.datasets.test_published import PUBLISHED, Seen, get, split
from tests.support.layouts import republish, save


@pytest.fixture
def by_hand(tmp_path, monkeypatch) -> Path:
    """A folder of all archives, whose sites do not answer."""
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path / "kept"))

    folder = tmp_path / "by hand"
    for name, contents in PUBLISHED.items():
        save(folder, republish(monkeypatch, name, "http://127.0.0.1:9", contents))

    return folder


def unpack(content: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")


def test_aircraft_is_torchvisions_train_and_test(tmp_path, by_hand):
    unpack(PUBLISHED["aircraft"][0], tmp_path)
    dataset = get("aircraft", mirror=Mirror(archive=str(by_hand)))

    for name in ("train", "test"):
        reference = FGVCAircraft(str(tmp_path), name, "variant")
        images = [Path(file).read_bytes() for file in reference._image_files]

        assert split(dataset, name) == Seen(reference._labels, images)
        assert dataset.classes == reference.classes


def test_cars_are_torchvisions_train_and_test(tmp_path, by_hand):
    folder = tmp_path / "stanford_cars"
    train, test, devkit, test_labels = PUBLISHED["cars"]
    for content in (train, test, devkit):
        unpack(content, folder)
    (folder / "cars_test_annos_withlabels.mat").write_bytes(test_labels)
    dataset = get("cars", mirror=Mirror(archive=str(by_hand)))

    for name in ("train", "test"):
        reference = StanfordCars(str(tmp_path), name)
        labels = [label for _, label in reference._samples]
        images = [Path(file).read_bytes() for file, _ in reference._samples]

        assert split(dataset, name) == Seen(labels, images)
        assert dataset.classes == reference.classes


def test_flowers_are_called_as_in_torchvision_but_for_a_question_mark():
    assert [name.replace("dahlia?", "dahlia") for name in Flowers102.classes] == flowers.CLASSES


def test_addresses_and_checksums_are_torchvisions():
    for name, archive in (("image", flowers.IMAGES), ("label", flowers.LABELS)):
        file, digest = Flowers102._file_dict[name]
        assert archive == (file, Flowers102._download_url_prefix, f"md5:{digest}")

    voc = DATASET_YEAR_DICT["2012"]
    assert pascal.PASCAL.site + pascal.PASCAL.name == voc["url"]
    assert pascal.PASCAL.checksum == f"md5:{voc['md5']}"

    assert aircraft.AIRCRAFT.site + aircraft.AIRCRAFT.name == FGVCAircraft._URL

"""Where torchvision reads a dataset, it is the reference: the same archives, unpacked, give the same."""

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
    monkeypatch.setenv("DIFFMIX_ARCHIVES", str(tmp_path / "kept"))
    for name, contents in PUBLISHED.items():
        save(tmp_path / "by hand", republish(monkeypatch, name, "http://127.0.0.1:9", contents))
    return tmp_path / "by hand"


def unpack(content: bytes, folder: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        tar.extractall(folder, filter="data")


def test_aircraft_is_torchvisions_train_and_test(tmp_path, by_hand):
    unpack(PUBLISHED["aircraft"][0], tmp_path)
    dataset = get("aircraft", mirror=Mirror(archive=str(by_hand)))
    for name in ("train", "test"):
        theirs = FGVCAircraft(str(tmp_path), name, "variant")
        images = [Path(file).read_bytes() for file in theirs._image_files]
        assert split(dataset, name) == Seen(theirs._labels, images)
        assert dataset.classes == theirs.classes


def test_cars_are_torchvisions_train_and_test(tmp_path, by_hand):
    train, test, devkit, labels = PUBLISHED["cars"]
    for content in (train, test, devkit):
        unpack(content, tmp_path / "stanford_cars")
    (tmp_path / "stanford_cars/cars_test_annos_withlabels.mat").write_bytes(labels)
    dataset = get("cars", mirror=Mirror(archive=str(by_hand)))
    for name in ("train", "test"):
        theirs = StanfordCars(str(tmp_path), name)
        expected = Seen(
            [label for _, label in theirs._samples],
            [Path(f).read_bytes() for f, _ in theirs._samples],
        )
        assert split(dataset, name) == expected
        assert dataset.classes == theirs.classes


def test_flowers_are_called_as_in_torchvision_but_for_a_question_mark():
    assert [name.replace("dahlia?", "dahlia") for name in Flowers102.classes] == flowers.CLASSES


def test_addresses_and_checksums_are_torchvisions():
    files = Flowers102._file_dict
    assert [
        (a.name, a.checksum.removeprefix("md5:"), a.site) for a in (flowers.IMAGES, flowers.LABELS)
    ] == [(*files[name], Flowers102._download_url_prefix) for name in ("image", "label")]
    voc = DATASET_YEAR_DICT["2012"]
    assert pascal.PASCAL.site + pascal.PASCAL.name == voc["url"]
    assert pascal.PASCAL.checksum == f"md5:{voc['md5']}"
    assert aircraft.AIRCRAFT.site + aircraft.AIRCRAFT.name == FGVCAircraft._URL

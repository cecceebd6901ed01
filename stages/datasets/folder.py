"""Your own photos: `<path>/train/<class>/*.jpg` and `<path>/test/<class>/*.jpg`, or one tree that is split.

A class is called as its folder is. Hidden files, nested folders and files that are no jpg, png or webp are left out.
DVC watches the folder: it is among the dependencies of `download`, whatever `data.name` is.
"""

import logging
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd

from stages.datasets.dataset import Dataset, Split
from stages.datasets.images import SUFFIXES, check_images, encode_images
from stages.shared.errors import BadInput
from stages.shared.schemas.download import Folder, find_photos

log = logging.getLogger(__name__)
UNPRINTABLE = (
    "Cc",
    "Cs",
    "Zl",
    "Zp",
)  # control characters, bytes that are no text, ends of a line or a paragraph
Files = dict[str, list[Path]]  # the images of each class, by name


def read_folder(folder: Folder) -> Dataset:
    """List, split and check the photos; raises BadInput, naming the folder or file."""
    try:
        return _read_tree(find_photos(folder.path), folder.test_share)
    except OSError as error:
        raise BadInput(
            f"{error.filename}: cannot be read ({error.strerror}); make it readable, or remove it"
        ) from None


def _read_tree(root: Path, test_share: float) -> Dataset:
    split = (root / "train").is_dir() and (
        any(_subfolders(root / "train")) or (root / "test").is_dir()
    )
    for other in [
        path for path in _subfolders(root) if split and path.name not in ("train", "test")
    ]:
        log.warning("%s: is neither train nor test, and left out", other)
    train = root / "train" if split else root
    files = _list_train(train)
    if split and (root / "test").is_dir():
        train_files, test_files = files, _list_test(root / "test", list(files))
    else:
        log.warning(
            "%s: there is no folder test; a share of %g of each class is set aside",
            root,
            test_share,
        )
        train_files, test_files = _split(files, test_share, train)
    parts = {"train": train_files, "test": test_files}
    check_images([path for part in parts.values() for paths in part.values() for path in paths])
    return Dataset(list(files), {name: _table(part, list(files)) for name, part in parts.items()})


def _list_train(folder: Path) -> Files:
    files = {each.name: _images(each) for each in _subfolders(folder)}
    if len(files) < 2:
        raise BadInput(
            f"{folder}: holds {len(files)} class folders, at least 2 are needed; make one for each class "
            "(an experiment outside the workspace sees a folder by its absolute path alone)"
        )
    for name, paths in files.items():
        if any(unicodedata.category(letter) in UNPRINTABLE for letter in name):
            raise BadInput(
                f"{str(folder / name)!r}: the name has unprintable characters; rename the folder"
            )
        if not paths and _subfolders(folder / name):
            raise BadInput(
                f"{folder / name}: holds folders, but no image; call those of a split train and test"
            )
        if not paths:
            raise BadInput(
                f"{folder / name}: holds no jpg, png or webp image; add some, or remove the folder"
            )
    _check_twins(folder, list(files))
    return files


def _check_twins(folder: Path, names: list[str]) -> None:
    """Raises BadInput for two names that differ in nothing that can be seen (Unicode normalisation)."""
    composed: dict[str, str] = {}
    for name in names:
        twin = composed.setdefault(unicodedata.normalize("NFC", name), name)
        if twin != name:
            raise BadInput(
                f"{folder / name}: looks like another class ({twin!a}, {name!a}); rename one"
            )


def _list_test(folder: Path, classes: list[str]) -> Files:
    files = {each.name: _images(each) for each in _subfolders(folder)}
    strange = [name for name in files if name not in classes]
    if strange:
        raise BadInput(
            f"{folder / strange[0]}: there is no such class in train; rename or remove the folder"
        )
    if not any(files.values()):
        raise BadInput(f"{folder}: holds no test image; add some, or remove it to have train split")
    for name in [name for name in classes if not files.get(name)]:
        log.warning(
            "%s: there is no test image of it; nothing is measured for this class", folder / name
        )
    return files


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")
    )


def _images(folder: Path) -> list[Path]:
    visible = sorted(
        path for path in folder.iterdir() if not path.is_dir() and not path.name.startswith(".")
    )
    images = [path for path in visible if path.suffix.lower() in SUFFIXES]
    if len(images) < len(visible):
        log.warning(
            "%s: %d files that are no jpg, png or webp are left out",
            folder,
            len(visible) - len(images),
        )
    return images


def _split(files: Files, test_share: float, folder: Path) -> tuple[Files, Files]:
    """At least one image of each class on either side."""
    train, test = {}, {}
    for name, paths in files.items():
        if len(paths) < 2:
            raise BadInput(
                f"{folder / name}: one image cannot be split into train and test; add another"
            )
        count = min(max(round(test_share * len(paths)), 1), len(paths) - 1)
        # seeded by the name, so that a new class leaves the others' split alone
        tested = set(
            np.random.default_rng(list(name.encode())).choice(len(paths), size=count, replace=False)
        )
        train[name] = [path for index, path in enumerate(paths) if index not in tested]
        test[name] = [path for index, path in enumerate(paths) if index in tested]
    return train, test


def _table(files: Files, classes: list[str]) -> Split:
    labels = [label for label, name in enumerate(classes) for _ in files.get(name, [])]
    paths = [path for name in classes for path in files.get(name, [])]
    return Split(pd.DataFrame({"label": labels}), encode_images(paths))

"""Your own photos: `<path>/{train,test}/<class>/*.jpg`, or `<path>/<class>/*.jpg`.

Without a test folder the images are split. A class is called as its folder is. Hidden files, what
systems leave behind, nested folders and files that are no jpg, png or webp are left out. DVC
watches the folder: it is among the dependencies of `download`, whatever `data.name` is.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd

from stages.datasets.dataset import Dataset, Split
from stages.datasets.images import SUFFIXES, check_images, encode_images
from stages.datasets.names import check_names, visible_form
from stages.shared.errors import BadInput
from stages.shared.schemas.download import Folder, find_photos

log = logging.getLogger(__name__)
# what macOS, Windows and network disks put beside people's files
CLUTTER = {
    "__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", "System Volume Information",
    "lost+found", "Thumbs.db", "desktop.ini", "Icon\r",
}  # fmt: skip
RENAME = "rename the folder"
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
    """The dataset of a folder with a split, or of one whose classes are split here."""
    train = root
    test = root / "test"
    if _is_split(root):
        train = root / "train"
        for other in _subfolders(root):
            if other not in (train, test):
                log.warning("%s: is neither train nor test, and left out", other)

    files = _list_train(train)
    classes = list(files)
    if train != root and test.is_dir():
        parts = {"train": files, "test": _list_test(test, classes)}
    else:
        log.warning(
            "%s: there is no folder test; a share of %g of each class is set aside",
            root, test_share,
        )  # fmt: skip
        parts = _split(files, test_share, train)

    images = {
        name: [path for paths in part.values() for path in paths] for name, part in parts.items()
    }
    digests = check_images([*images["train"], *images["test"]])
    _warn_of_shared(images["train"], images["test"], digests)
    return Dataset(classes, {name: _table(part, classes) for name, part in parts.items()})


def _warn_of_shared(train: list[Path], test: list[Path], digests: list[bytes]) -> None:
    """Warn of pictures that are both trained and tested on, once; digests: train's, then test's."""
    trained = dict(zip(digests[: len(train)], train, strict=True))
    tested = zip(digests[len(train) :], test, strict=True)
    shared = [(trained[digest], path) for digest, path in tested if digest in trained]

    if shared:
        log.warning(
            "%s and %s: are one picture, which is trained and tested on (%d of %d test images are "
            "in train): accuracy would be too high; remove one of each pair",
            *shared[0], len(shared), len(test),
        )  # fmt: skip


def _is_split(root: Path) -> bool:
    """Whether the folder holds a split; a lone, flat `train` may be a class."""
    train = root / "train"
    return train.is_dir() and (any(_subfolders(train)) or (root / "test").is_dir())


def _list_train(folder: Path) -> Files:
    """The images of each class; raises BadInput for a class without a clear name or an image."""
    files = {each.name: _images(each) for each in _subfolders(folder)}
    if len(files) < 2:
        raise BadInput(
            f"{folder}: holds {len(files)} class folders, at least 2 are needed; "
            "make one for each class "
            "(an experiment outside the workspace sees a folder by its absolute path alone)"
        )

    check_names(list(files), folder.joinpath, RENAME)
    for name, paths in files.items():
        if not paths and _subfolders(folder / name):
            raise BadInput(
                f"{folder / name}: holds folders, but no image; "
                "call those of a split train and test"
            )
        if not paths:
            raise BadInput(
                f"{folder / name}: holds no jpg, png or webp image; add some, or remove the folder"
            )

    return files


def _list_test(folder: Path, classes: list[str]) -> Files:
    """The images of each class; raises BadInput for a class that train lacks, or for no image."""
    files = {each.name: _images(each) for each in _subfolders(folder)}

    check_names(list(files), folder.joinpath, RENAME)
    _check_known(folder, list(files), classes)
    if not any(files.values()):
        raise BadInput(f"{folder}: holds no test image; add some, or remove it to have train split")

    for name in classes:
        if not files.get(name):
            log.warning(
                "%s: there is no test image of it; nothing is measured for this class",
                folder / name,
            )
    return files


def _check_known(folder: Path, names: list[str], classes: list[str]) -> None:
    """Raises BadInput for a class that train lacks, or has in another spelling."""
    alike = {visible_form(name): name for name in classes}

    for name in names:
        if name in classes:
            continue

        twin = alike.get(visible_form(name))
        if twin is not None:
            raise BadInput(
                f"{folder / name}: looks like a class of train, but is spelled {name!a} instead "
                f"of {twin!a}; {RENAME}"
            )
        raise BadInput(
            f"{folder / name}: there is no such class in train; rename or remove the folder"
        )


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in _visible(folder) if path.is_dir())


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not is_clutter(path.name)]


def is_clutter(name: str) -> bool:
    """Whether a file or folder of that name is hidden, or put beside people's files by a system."""
    return name.startswith(".") or name in CLUTTER


def _images(folder: Path) -> list[Path]:
    """The folder's images, by name; warns of other files."""
    files = sorted(path for path in _visible(folder) if not path.is_dir())
    images = [path for path in files if path.suffix.lower() in SUFFIXES]

    others = len(files) - len(images)
    if others:
        log.warning("%s: %d files that are no jpg, png or webp are left out", folder, others)
    return images


def _split(files: Files, test_share: float, folder: Path) -> dict[str, Files]:
    """Train and test, with at least one image of each class in either."""
    train: Files = {}
    test: Files = {}

    for name, paths in files.items():
        if len(paths) < 2:
            raise BadInput(
                f"{folder / name}: one image cannot be split into train and test; add another"
            )

        # seeded by the name, so that a new class leaves the others' split alone
        rng = np.random.default_rng(list(name.encode()))
        count = min(max(round(test_share * len(paths)), 1), len(paths) - 1)
        tested = set(rng.choice(len(paths), size=count, replace=False))

        train[name] = [path for index, path in enumerate(paths) if index not in tested]
        test[name] = [path for index, path in enumerate(paths) if index in tested]

    return {"train": train, "test": test}


def _table(files: Files, classes: list[str]) -> Split:
    labels = [label for label, name in enumerate(classes) for _ in files.get(name, [])]
    paths = [path for name in classes for path in files.get(name, [])]
    return Split(pd.DataFrame({"label": labels}), encode_images(paths))

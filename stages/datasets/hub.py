"""Any image dataset of the Hugging Face hub, by id, commit, and names of columns and splits.

The commit is the checksum: it names the content of every file. A copy of the dataset's files at
data.archive is held to the checksum of the first one that could be read. data.url is another hub of
the same interface. Needs `pip install datasets`.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import (
    Mirror,
    archive_folder,
    checksum,
    record_checksum,
    recorded_checksum,
    unrecord,
    user_path,
)
from stages.datasets.fetching.tars import Listed, assemble
from stages.datasets.names import with_spaces
from stages.shared.errors import BadInput
from stages.shared.params import shortened
from stages.shared.schemas.download import Hub


class HubImage(NamedTuple):
    """A row's image, with what `check_images` and `encode_images` use of a Path."""

    column: Any  # datasets' column of {"bytes", "path"}
    split: str
    row: int

    def __str__(self) -> str:
        return f"params.yaml: data.hub: row {self.row} of split {self.split}"

    def read_bytes(self) -> bytes:
        cell = self.column[self.row]
        return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]).read_bytes()


def read_hub(hub: Hub, mirror: Mirror) -> Dataset:
    """Raises BadInput, naming the parameter, for what the hub or the dataset does not have."""
    datasets = _library(mirror.url)
    if mirror.archive is not None:
        return _read_copy(datasets, hub, _local(mirror.archive))

    if os.path.exists(str(hub.id)):
        # the library would read that folder, whatever its commit
        raise BadInput(
            f"params.yaml: data.hub.id: {hub.id} is a folder here; "
            "name it at data.archive, or move it"
        )

    return _read_splits(datasets, hub, None)


def _read_copy(datasets: Any, hub: Hub, folder: Path) -> Dataset:
    """The dataset of a folder with its files; raises BadInput where they were others before."""
    name = f"{hub.id}@{hub.revision}"
    digest = _digest(folder)
    expected = recorded_checksum(name)
    if expected not in (None, digest):
        raise BadInput(
            f"{folder}: its checksum is {digest}, but {expected} was recorded for {name}; "
            f"get it anew, or null data.archive; {unrecord(name)}"
        )

    dataset = _read_splits(datasets, hub, folder)
    if expected is None:
        record_checksum(name, digest)
    return dataset


def _read_splits(datasets: Any, hub: Hub, folder: Path | None) -> Dataset:
    """The dataset of the hub, or of a folder with its files."""
    splits = {
        "train": _load(datasets, hub, folder, hub.train),
        "test": _load(datasets, hub, folder, hub.test),
    }
    classes, rows = name_labels(hub, splits)

    listed = {name: Listed(rows[name], _images(hub, name, part)) for name, part in splits.items()}
    return assemble(classes, listed)


def name_labels(hub: Hub, splits: dict[str, Any]) -> tuple[list[str], dict[str, pd.DataFrame]]:
    """The classes, and each split's rows.

    Classes are called as the dataset says, or else by train's values in ascending order.
    """
    feature = splits["train"].features[hub.label]
    values = {name: list(split[hub.label]) for name, split in splits.items()}

    if hasattr(feature, "names"):
        names = list(feature.names)
        known: list[Any] = list(range(len(names)))
    else:
        known = sorted({value for value in values["train"] if isinstance(value, str | int)})
        names = [str(value) for value in known]

    labels = {value: label for label, value in enumerate(known)}
    rows = {}
    for name, column in values.items():
        for value in column:
            if not isinstance(value, str | int) or value not in labels:
                raise BadInput(
                    f"params.yaml: data.hub.label: {name} has {value!r}, a class that train lacks"
                )
        rows[name] = pd.DataFrame({"label": [labels[value] for value in column]})

    return with_spaces(names), rows


def _load(datasets: Any, hub: Hub, folder: Path | None, split: str | None) -> Any:
    """One split, of the hub or of a folder with its files."""
    source = {"path": hub.id, "revision": hub.revision}
    if folder is not None:
        source = {"path": str(folder)}

    cache = str(archive_folder() / "hub")
    try:
        part = datasets.load_dataset(**source, split=split, cache_dir=cache)
    except Exception as error:  # the library raises what its parts raise
        reason = shortened(" ".join(str(error).split()) or type(error).__name__, 300)
        where = f"params.yaml: data.hub: {hub.id} at {hub.revision}"
        raise BadInput(f"{where}: {split} cannot be fetched ({reason})") from None

    for name in (hub.image, hub.label):
        if name not in part.column_names:
            raise BadInput(
                f"params.yaml: data.hub: no column {name}; choose of {', '.join(part.column_names)}"
            )

    return part


def _library(url: str | None) -> Any:
    """The library `datasets`, which asks the hub at `url`; raises BadInput where it is missing."""
    if url is not None:
        os.environ["HF_ENDPOINT"] = url.rstrip("/")  # read when the library is imported

    try:
        import datasets
    except ImportError:
        raise BadInput(
            "params.yaml: data.name: hub needs `pip install datasets`; or take another dataset"
        ) from None
    return datasets


def _local(path: str) -> Path:
    """The folder with the dataset's files, as data.archive names it."""
    root = user_path(path)
    if not os.path.isdir(root):
        raise BadInput(
            f"params.yaml: data.archive: there is no folder {root}; "
            "name the dataset's, or set it to null"
        )

    return root


def _digest(root: Path) -> str:
    """The checksum of all files of the dataset."""
    files = sorted(file for file in root.rglob("*") if file.is_file() and ".git" not in file.parts)
    lines = [f"{file.relative_to(root)} {checksum(file, 'sha256:')}" for file in files]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return f"sha256:{digest}"


def _images(hub: Hub, name: str, part: Any) -> Sequence[HubImage]:
    """The images of a split, not decoded; raises BadInput for a column of something else."""
    import datasets

    if not isinstance(part.features[hub.image], datasets.Image):
        raise BadInput(
            f"params.yaml: data.hub.image: column {hub.image} holds no images; "
            "name the one that does"
        )

    column = part.cast_column(hub.image, datasets.Image(decode=False))[hub.image]
    return [HubImage(column, name, row) for row in range(len(part))]

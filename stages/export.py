"""Unpack an image table into a folder per class, to look at, or for torchvision's ImageFolder.

Reads:  TABLE: data/download/{train,test,ood}, data/subsample, data/synthesize or data/filter;
        data/download/classes.csv
Writes: FOLDER/<class>/<key>.<suffix>
Paper:  –

This is a tool, not a stage of the pipeline:

    python -m stages.export TABLE FOLDER
"""

import re
from argparse import ArgumentParser
from pathlib import Path

from tqdm import tqdm

from stages.shared.errors import BadInput
from stages.shared.manifests import REMAKE, read_classes, read_manifest, shown
from stages.shared.tables import Table

# tables that only choose rows of another, whose images they share
IMAGES = {"subsample": "download/train", "filter": "synthesize"}

# what one system or another refuses in a file's name
UNSAFE = re.compile(
    r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)', re.IGNORECASE
)
LONGEST = 200  # bytes of a class's name; most systems allow 255 in all


def folder_names(names: list[str]) -> list[str]:
    """A folder name for each class.

    It is the class's own name; but where one class's name cannot be a folder's, or two differ in
    case only, all names are numbered and cleaned.
    """
    distinct = len({name.casefold() for name in names}) == len(names)
    if distinct and all(is_safe(name) for name in names):
        return names

    cleaned = []
    for index, name in enumerate(names):
        shortened = UNSAFE.sub("_", name).encode()[:LONGEST].decode(errors="ignore")
        cleaned.append(f"{index:04d}_{shortened.rstrip('. ')}")
    return cleaned


def is_safe(name: str) -> bool:
    """Whether every system allows a folder of this name."""
    return not UNSAFE.search(name) and 0 < len(name.encode()) <= LONGEST


def open_table(folder: Path) -> tuple[Table, list[str]]:
    """The table and the names of its classes.

    Raises BadInput for a folder of tables, a key that cannot be a file's name, and a label without
    a class.
    """
    if folder.name == "download":
        raise BadInput(f"{folder}: holds several tables; name its train, test or ood")

    data = folder.parent.parent if folder.parent.name == "download" else folder.parent
    images = data / IMAGES[folder.name] if folder.name in IMAGES else folder

    rows = read_manifest(folder)
    names = list(read_classes(data / "download")["name"])

    # a file gets its key as its name
    strange = [key for key in rows["key"] if UNSAFE.search(key) or not key]
    if strange:
        raise BadInput(
            f"{folder}/manifest.csv: key {shown(strange[0])} cannot be a file's name; {REMAKE}"
        )
    if (rows["label"] >= len(names)).any():
        raise BadInput(
            f"{folder}/manifest.csv: label {rows['label'].max()} has no name in classes.csv; "
            f"{REMAKE}"
        )
    return Table(images, rows), names


def export(source: Path, target: Path) -> None:
    """Write the images of the table `source` into a folder a class under `target`.

    Raises BadInput where `source` is no table, or `target` is already in use.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: is not an empty folder; name a new one")

    table, names = open_table(source.resolve())
    folders = [target / name for name in folder_names(names)]

    keys_and_labels = zip(tqdm(table.rows["key"]), table.rows["label"], strict=True)
    for row, (key, label) in enumerate(keys_and_labels):
        content = table.read(row)
        folders[label].mkdir(parents=True, exist_ok=True)
        (folders[label] / f"{key}.{table.suffix(row)}").write_bytes(content)


def main() -> None:
    parser = ArgumentParser(description="Unpack an image table into a folder per class.")
    parser.add_argument(
        "table", type=Path, help="data/download/train, data/synthesize, data/filter, …"
    )
    parser.add_argument("folder", type=Path, help="where to unpack; new or empty")
    arguments = parser.parse_args()
    export(arguments.table, arguments.folder)


if __name__ == "__main__":
    main()

"""Unpack an image table into FOLDER/<class>/<key>.<suffix>, to look at, or for torchvision's ImageFolder.

    python -m stages.export TABLE FOLDER

TABLE is data/download/{train,test,ood}, data/subsample, data/synthesize or data/filter. Not a stage of the pipeline.
"""

import re
from argparse import ArgumentParser
from pathlib import Path

from tqdm import tqdm

from stages.shared.errors import BadInput
from stages.shared.tables import REMAKE, Table, read_classes, read_manifest, shown

IMAGES = {
    "subsample": "download/train",
    "filter": "synthesize",
}  # tables that only choose rows of another
UNSAFE = re.compile(
    r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)', re.IGNORECASE
)  # to one system or another
LONGEST = 200  # bytes of a class's name; most systems allow 255 in all


def folder_names(names: list[str]) -> list[str]:
    """A folder name for each class: its own name, or, if any cannot be, all numbered and cleaned."""
    unlike = len({name.casefold() for name in names}) == len(names)
    if unlike and not any(
        UNSAFE.search(name) or not 0 < len(name.encode()) <= LONGEST for name in names
    ):
        return names
    cut = [
        UNSAFE.sub("_", name).encode()[:LONGEST].decode(errors="ignore").rstrip(". ")
        for name in names
    ]
    return [f"{index:04d}_{name}" for index, name in enumerate(cut)]


def open_table(folder: Path) -> tuple[Table, list[str]]:
    """The table and the names of its classes."""
    data = folder.parent.parent if folder.parent.name == "download" else folder.parent
    images = data / IMAGES[folder.name] if folder.name in IMAGES else folder
    if folder.name == "download":
        raise BadInput(f"{folder}: holds several tables; name its train, test or ood")
    rows, names = read_manifest(folder), list(read_classes(data / "download")["name"])
    if strange := [
        key for key in rows["key"] if UNSAFE.search(key) or not key
    ]:  # a file is called by it
        raise BadInput(
            f"{folder}/manifest.csv: key {shown(strange[0])} cannot be a file's name; {REMAKE}"
        )
    if (rows["label"] >= len(names)).any():
        raise BadInput(
            f"{folder}/manifest.csv: label {rows['label'].max()} has no name in classes.csv; {REMAKE}"
        )
    return Table(images, rows), names


def export(source: Path, target: Path) -> None:
    """Raises BadInput where `source` is no table, or `target` is already in use."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: is not an empty folder; name a new one")
    table, names = open_table(source.resolve())
    folders = [target / name for name in folder_names(names)]
    for row, (key, label) in enumerate(
        zip(tqdm(table.rows["key"]), table.rows["label"], strict=True)
    ):
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

"""Unpack an image table into a folder per class, with what is known of each image beside it.

Reads:  TABLE: data/download/{train,test,ood}, data/subsample, data/synthesize or data/filter;
        data/download/classes.csv; for synthetic images also data/method/plan.json and params.yaml
Writes: FOLDER/<class>/<key>.<suffix>, FOLDER/metadata.jsonl
Paper:  Eq. 3 (`weight`, the target's share of a synthetic image's label)

This is a tool, not a stage of the pipeline:

    python -m stages.export TABLE FOLDER

Two kinds of libraries then load FOLDER:

    torchvision.datasets.ImageFolder(FOLDER)
    timm.data.create_dataset("", root=FOLDER)
        find an image's class by its folder, and pass over metadata.jsonl
    datasets.load_dataset("imagefolder", data_dir=FOLDER, split="train")
        makes a row of each line of metadata.jsonl, in its order: `file_name` becomes the column
        `image`, the others stay what they are. Beside such a file Hugging Face's imagefolder takes
        no label from the folders, so that the class's name is a column here, called `label` as its
        trainers expect.
"""

import json
import re
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pandas as pd

from stages.shared.classifier.target_weight import target_share
from stages.shared.errors import BadInput
from stages.shared.manifests import REMAKE, read_classes, read_manifest, shown
from stages.shared.methods import read_mode
from stages.shared.params import PATH, Section, load
from stages.shared.paths import METHOD
from stages.shared.schemas.report import Synth
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress

# tables that only choose rows of another, whose images they share
IMAGES = {"subsample": "download/train", "filter": "synthesize"}
SYNTHETIC = ("synthesize", "filter")
SYNTHETIC_COLUMNS = ["source_label", "target_label", "strength", "seed"]
METADATA = "metadata.jsonl"

# what one system or another refuses in a file's name, and the name that is taken
UNSAFE = re.compile(
    r'[<>:"/\\|?*\x00-\x1f]|^[. ]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(?=\.|$)'
    r"|^metadata\.jsonl$",
    re.IGNORECASE,
)
# a word, between these separators or alone, that Hugging Face's imagefolder (and timm, alone) takes
# for the name of a split: it would load the images of that class only. Pascal has a class "train".
SPLIT = re.compile(
    r"(?<![^-._ 0-9])"
    r"(train|training|val|valid|validation|dev|test|testing|eval|evaluation)"
    r"(?![^-._ 0-9])",
    re.IGNORECASE,
)
LONGEST = 200  # bytes of a class's name; most systems allow 255 in all


class Params(Section):
    """What the tool reads of params.yaml, for synthetic images."""

    synth: Synth


def folder_names(names: list[str]) -> list[str]:
    """A folder name for each class.

    It is the class's own name; but where one class's name cannot be a folder's, or two differ in
    case only, all names are numbered and cleaned. A split's name gets parentheses, which hide it.
    """
    distinct = len({name.casefold() for name in names}) == len(names)
    if distinct and all(is_safe(name) for name in names):
        return names

    cleaned = []
    for index, name in enumerate(names):
        safe = SPLIT.sub(r"(\g<0>)", UNSAFE.sub("_", name))
        shortened = safe.encode()[:LONGEST].decode(errors="ignore")
        cleaned.append(f"{index:04d}_{shortened.rstrip('. ')}")
    return cleaned


def is_safe(name: str) -> bool:
    """Whether every system allows a folder of this name, and no library takes it for a split."""
    fits = 0 < len(name.encode()) <= LONGEST
    return fits and not UNSAFE.search(name) and not SPLIT.search(name)


def data_folder(table: Path) -> Path:
    """The folder data/ that a table lies in."""
    return table.parent.parent if table.parent.name == "download" else table.parent


def open_table(folder: Path) -> tuple[Table, list[str]]:
    """The table and the names of its classes.

    Raises BadInput for a folder of tables, a key that cannot be a file's name, and a label without
    a class.
    """
    if folder.name == "download":
        raise BadInput(f"{folder}: holds several tables; name its train, test or ood")

    data = data_folder(folder)
    images = data / IMAGES[folder.name] if folder.name in IMAGES else folder

    rows = read_manifest(folder, SYNTHETIC_COLUMNS if folder.name in SYNTHETIC else [])
    names = list(read_classes(data / "download")["name"])

    # a file gets its key as its name
    strange = [key for key in rows["key"] if UNSAFE.search(key) or not key]
    if strange:
        raise BadInput(
            f"{folder}/manifest.csv: key {shown(strange[0])} cannot be a file's name; {REMAKE}"
        )

    # of a synthetic image the source's and the target's, too
    highest = rows.filter(regex="label$").to_numpy().max(initial=0)
    if highest >= len(names):
        raise BadInput(
            f"{folder}/manifest.csv: label {highest} has no name in classes.csv; {REMAKE}"
        )
    return Table(images, rows), names


def describe_images(folder: Path, rows: pd.DataFrame, names: list[str]) -> dict[str, list[Any]]:
    """What metadata.jsonl says of the images of a table, but for their files: (n,) by column.

    A source is None where an image has none. Raises BadInput where γ or the method's strengths,
    which give the weights, cannot be read.
    """
    found = {"label": [names[label] for label in rows["label"]]}
    if "group" in rows:
        found["group"] = rows["group"].tolist()
    if folder.name not in SYNTHETIC:
        return found

    data = data_folder(folder)
    gamma = load(Params, path=data.parent / PATH).synth.gamma
    _mode, strengths = read_mode(data / METHOD.name)

    found["target"] = [names[label] for label in rows["target_label"]]
    found["source"] = [names[label] if label >= 0 else None for label in rows["source_label"]]
    found["strength"] = rows["strength"].astype(float).tolist()
    found["weight"] = target_share(rows, gamma, strengths).tolist()
    found["seed"] = rows["seed"].tolist()
    if "score" in rows:
        found["score"] = rows["score"].astype(float).tolist()

    return found


def export(source: Path, target: Path) -> None:
    """Write the images of the table `source` into a folder a class under `target`, and METADATA.

    Raises BadInput where `source` is no table, or `target` is already in use.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadInput(f"{target}: is not an empty folder; name a new one")

    source = source.resolve()
    table, names = open_table(source)
    known = describe_images(source, table.rows, names)
    folders = folder_names(names)

    target.mkdir(parents=True, exist_ok=True)
    with (target / METADATA).open("w", encoding="utf-8", newline="\n") as metadata:
        keys_and_labels = zip(Progress(table.rows["key"]), table.rows["label"], strict=True)
        for row, (key, label) in enumerate(keys_and_labels):
            content = table.read(row)
            name = f"{folders[label]}/{key}.{table.suffix(row)}"
            (target / folders[label]).mkdir(exist_ok=True)
            (target / name).write_bytes(content)

            line = {"file_name": name} | {column: known[column][row] for column in known}
            metadata.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    parser = ArgumentParser(
        prog="python -m stages.export",
        description="Unpack an image table into a folder per class, and metadata.jsonl.",
    )
    parser.add_argument(
        "table", type=Path, help="data/download/train, data/synthesize, data/filter, …"
    )
    parser.add_argument("folder", type=Path, help="where to unpack; new or empty")
    arguments = parser.parse_args()
    export(arguments.table, arguments.folder)


if __name__ == "__main__":
    main()

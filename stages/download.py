"""Get the dataset: draw Toybirds, or import a folder of photos, every image checked.

Writes data/download/{train,masks,test,ood}/ (image tables; masks has the foregrounds of train's images, where they are
known) and data/download/classes.csv. A folder of photos lies outside the pipeline and is not watched: after a change
in it, `dvc repro -f download`. Sec. 4 (datasets), Sec. 4.4 (Waterbird).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pydantic import Field
from tqdm import tqdm

from stages.datasets.dataset import Dataset, Split
from stages.datasets.folder import Folder, read_folder
from stages.datasets.toybirds_tables import Toybirds, draw_toybirds
from stages.shared.params import Section, load
from stages.shared.tables import write_classes, write_table
from stages.shared.work import publish, work_folder

OUTPUT = Path("data/download")
DATASETS: dict[str, Callable[[Any], Dataset]] = {"toybirds": draw_toybirds, "folder": read_folder}
EMPTY = {"masks": Split(pd.DataFrame({"label": []}), ()), "ood": Split(pd.DataFrame({"label": [], "group": []}), ())}


class Data(Section):
    name: Literal["toybirds", "folder"]
    metaclass: str = Field(pattern=r"^\S+( \S+)*$")  # words, for a prompt
    toybirds: Toybirds
    folder: Folder


class Params(Section):
    data: Data


def write_dataset(dataset: Dataset, metaclass: str, folder: Path) -> None:
    """Write the tables and the classes; what a dataset has not is an empty table, so that later stages agree."""
    for name in ("train", "masks", "test", "ood"):
        rows, images = (EMPTY | dataset.splits)[name]
        bar = tqdm(images, desc=f"writing {name}", total=len(rows), unit="image", disable=rows.empty)
        write_table(folder / name, bar, rows)
    write_classes(folder, dataset.classes, metaclass)


def main() -> None:
    data = load(Params).data
    dataset = DATASETS[data.name](getattr(data, data.name))
    with work_folder("download", "tables") as folder:
        shutil.rmtree(folder)  # what an interrupted run left: its photos may be gone by now
        write_dataset(dataset, data.metaclass, folder)
        publish(folder, OUTPUT)


if __name__ == "__main__":
    main()

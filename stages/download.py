"""Get the dataset: draw Toybirds, import a folder of photos, or fetch a published one, every image checked.

Writes data/download/{train,masks,test,ood}/ (image tables; masks has the foregrounds of train's images, where they are
known) and data/download/classes.csv. Archives are kept, verified, in .work/archives. Sec. 4, Table 8 (datasets),
Sec. 4.4 (Waterbird).
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self

import pandas as pd
from pydantic import Field, model_validator
from tqdm import tqdm

from stages.datasets.aircraft import read_aircraft
from stages.datasets.archives import Place
from stages.datasets.cars import read_cars
from stages.datasets.cub import read_cub
from stages.datasets.dataset import Dataset, Split
from stages.datasets.dogs import read_dogs
from stages.datasets.flowers import read_flowers
from stages.datasets.folder import Folder, read_folder
from stages.datasets.hub import Hub, read_hub
from stages.datasets.pascal import read_pascal
from stages.datasets.toybirds_tables import Toybirds, draw_toybirds
from stages.shared.params import Section, load
from stages.shared.tables import write_classes, write_table
from stages.shared.work import publish, work_folder

OUTPUT = Path("data/download")
EMPTY = {"masks": Split(pd.DataFrame({"label": []}), ()), "ood": Split(pd.DataFrame({"label": [], "group": []}), ())}


class Data(Section):
    name: Literal["toybirds", "folder", "cub", "aircraft", "flowers", "dogs", "cars", "pascal", "hub"]
    metaclass: str = Field(pattern=r"^\S+( \S+)*$")  # words, for a prompt
    url: str | None = Field(pattern=r"^https?://\S+$")
    archive: str | None
    waterbirds: bool
    toybirds: Toybirds
    folder: Folder
    hub: Hub

    @model_validator(mode="after")
    def check_source(self) -> Self:
        if self.waterbirds and self.name != "cub":
            raise ValueError(f"waterbirds are species of cub, not of {self.name}; set it to false, or name to cub")
        missing = [name for name, value in self.hub if value is None]
        if self.name == "hub" and missing:
            raise ValueError(f"hub.{missing[0]} is null; a dataset of the hub needs id, revision, columns and splits")
        return self


class Params(Section):
    data: Data


READERS: dict[str, Callable[[Data, Place], Dataset]] = {
    "toybirds": lambda data, place: draw_toybirds(data.toybirds),
    "folder": lambda data, place: read_folder(data.folder),
    "cub": lambda data, place: read_cub(place, data.waterbirds),
    "aircraft": lambda data, place: read_aircraft(place),
    "flowers": lambda data, place: read_flowers(place),
    "dogs": lambda data, place: read_dogs(place),
    "cars": lambda data, place: read_cars(place),
    "pascal": lambda data, place: read_pascal(place),
    "hub": lambda data, place: read_hub(data.hub, place),
}


def write_dataset(dataset: Dataset, metaclass: str, folder: Path) -> None:
    """Write the tables and the classes; what a dataset has not is an empty table, so that later stages agree."""
    for name in ("train", "masks", "test", "ood"):
        rows, images = (EMPTY | dataset.splits)[name]
        bar = tqdm(images, desc=f"writing {name}", total=len(rows), unit="image", disable=rows.empty)
        write_table(folder / name, bar, rows)
    write_classes(folder, dataset.classes, metaclass)


def main() -> None:
    data = load(Params).data
    with work_folder("download", "tables") as folder:  # locked, and a full disk said in one line, while fetching too
        dataset = READERS[data.name](data, Place(data.url, data.archive))
        shutil.rmtree(folder)  # what an interrupted run left: its photos may be gone by now
        write_dataset(dataset, data.metaclass, folder)
        publish(folder, OUTPUT)
    sizes = {name: len(split.rows) for name, split in dataset.splits.items()}
    print(f"{len(dataset.classes)} classes: {sizes['train']} images to train on, {sizes['test']} to test on")


if __name__ == "__main__":
    main()

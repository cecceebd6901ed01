"""Get the dataset: draw Toybirds, import a folder of photos, or fetch a published one.

Reads:  a folder of photos (data.folder.path), or a dataset's site, its mirror or the hub
Writes: data/download/{train,masks,test,ood}/, data/download/classes.csv
Paper:  Sec. 4, Table 8 (datasets), Sec. 4.4 (Waterbird)

Every image is checked. The four folders are image tables; masks has the foregrounds of train's
images, where they are known. Archives are kept, verified, in .work/archives.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from stages.datasets.dataset import Dataset, Split
from stages.datasets.fetching.archives import Mirror
from stages.datasets.folder import read_folder
from stages.datasets.hub import read_hub
from stages.datasets.published.aircraft import read_aircraft
from stages.datasets.published.cars import read_cars
from stages.datasets.published.cub import read_cub
from stages.datasets.published.dogs import read_dogs
from stages.datasets.published.flowers import read_flowers
from stages.datasets.published.pascal import read_pascal
from stages.datasets.toybirds.tables import draw_toybirds
from stages.shared.manifests import write_classes
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD
from stages.shared.running.inputs import run
from stages.shared.running.work import publish, work_folder
from stages.shared.schemas.download import Data, Params
from stages.shared.tables import write_table
from stages.shared.watching.progress import Progress

EMPTY = {
    "masks": Split(pd.DataFrame({"label": []}), ()),
    "ood": Split(pd.DataFrame({"label": [], "group": []}), ()),
}

READERS: dict[str, Callable[[Data, Mirror], Dataset]] = {
    "toybirds": lambda data, mirror: draw_toybirds(data.toybirds),
    "folder": lambda data, mirror: read_folder(data.folder),
    "cub": lambda data, mirror: read_cub(mirror, data.waterbirds),
    "aircraft": lambda data, mirror: read_aircraft(mirror),
    "flowers": lambda data, mirror: read_flowers(mirror),
    "dogs": lambda data, mirror: read_dogs(mirror),
    "cars": lambda data, mirror: read_cars(mirror),
    "pascal": lambda data, mirror: read_pascal(mirror),
    "hub": lambda data, mirror: read_hub(data.hub, mirror),
}


def write_dataset(dataset: Dataset, metaclass: str, folder: Path) -> None:
    """Write the tables and the classes.

    A split that the dataset does not have becomes an empty table, so that later stages find it.
    """
    splits = EMPTY | dataset.splits
    for name in ("train", "masks", "test", "ood"):
        rows, images = splits[name]
        bar = Progress(
            images, desc=f"writing {name}", total=len(rows), unit="image", disable=rows.empty
        )
        write_table(folder / name, bar, rows)
    write_classes(folder, dataset.classes, metaclass)


def main() -> None:
    data = load(Params).data

    # the folder is entered before anything is fetched: it is locked then,
    # and a disk that fills up while fetching is reported in one line
    with work_folder("download", "tables") as folder:
        dataset = READERS[data.name](data, Mirror(data.url, data.archive))

        # what an interrupted run left goes: its photos may be gone by now
        shutil.rmtree(folder)
        write_dataset(dataset, data.metaclass, folder)
        publish(folder, DOWNLOAD)

    train = len(dataset.splits["train"].rows)
    test = len(dataset.splits["test"].rows)
    print(f"{len(dataset.classes)} classes: {train} images to train on, {test} to test on")


if __name__ == "__main__":
    run(main)

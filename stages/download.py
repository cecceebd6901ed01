"""Get the dataset: draw Toybirds, import a folder of photos, or fetch a published one, every image checked.

Writes data/download/{train,masks,test,ood}/ (image tables; masks has the foregrounds of train's images, where they are
known) and data/download/classes.csv. Archives are kept, verified, in .work/archives. Sec. 4, Table 8 (datasets),
Sec. 4.4 (Waterbird).
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from tqdm import tqdm

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
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD
from stages.shared.running.work import publish, work_folder
from stages.shared.schemas.download import Data, Params
from stages.shared.tables import write_classes, write_table

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
    """Write the tables and the classes; what a dataset has not is an empty table, so that later stages agree."""
    for name in ("train", "masks", "test", "ood"):
        rows, images = (EMPTY | dataset.splits)[name]
        bar = tqdm(
            images, desc=f"writing {name}", total=len(rows), unit="image", disable=rows.empty
        )
        write_table(folder / name, bar, rows)
    write_classes(folder, dataset.classes, metaclass)


def main() -> None:
    data = load(Params).data
    with work_folder(
        "download", "tables"
    ) as folder:  # locked, and a full disk said in one line, while fetching too
        dataset = READERS[data.name](data, Mirror(data.url, data.archive))
        shutil.rmtree(folder)  # what an interrupted run left: its photos may be gone by now
        write_dataset(dataset, data.metaclass, folder)
        publish(folder, DOWNLOAD)
    sizes = {name: len(split.rows) for name, split in dataset.splits.items()}
    print(
        f"{len(dataset.classes)} classes: {sizes['train']} images to train on, {sizes['test']} to test on"
    )


if __name__ == "__main__":
    main()

"""CUB-200-2011 (Wah et al., 2011): 200 species of birds, 5994 and 5794 images (Table 8).

With Waterbirds (Sagawa et al., 2019) as the ood table, if wanted (Sec. 4.4). torchvision reads
neither.
"""

import pandas as pd

from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import Archive, Mirror, fetch
from stages.datasets.fetching.tars import Listed, Tar, assemble
from stages.datasets.published.waterbirds import WATERBIRDS, list_waterbirds

CUB = Archive(
    "CUB_200_2011.tgz",
    "https://data.caltech.edu/records/65de6-vp158/files/",
    "sha256:0c685df5597a8b24909f6a7c9db6d11e008733779a671760afef78feb49bf081",
)
ROOT = "CUB_200_2011"


def read_cub(mirror: Mirror, waterbirds: bool) -> Dataset:
    """Raises BadInput for an archive that cannot be fetched, or an image that cannot be read."""
    with fetch([CUB, WATERBIRDS] if waterbirds else [CUB], mirror) as paths:
        cub = Tar(paths[0])
        classes, rows = list_images(cub)

        parts = {"train": rows[rows["train"]], "test": rows[~rows["train"]]}
        splits = {
            name: Listed(part[["label"]].reset_index(drop=True), cub.members(part["member"]))
            for name, part in parts.items()
        }
        if waterbirds:
            splits["ood"] = list_waterbirds(Tar(paths[1]), len(classes))

        return assemble(classes, splits)


def list_images(cub: Tar) -> tuple[list[str], pd.DataFrame]:
    """The classes' names, and a row for each image in the order of images.txt.

    A row has member, label and train (bool).
    """
    folders, images, labels, train = (
        dict(line.split(" ", 1) for line in cub.lines(f"{ROOT}/{name}.txt"))
        for name in ("classes", "images", "image_class_labels", "train_test_split")
    )
    classes = [class_name(folder) for folder in folders.values()]

    rows = [
        (f"{ROOT}/images/{path}", int(labels[key]) - 1, train[key] == "1")
        for key, path in images.items()
    ]
    return classes, pd.DataFrame(rows, columns=["member", "label", "train"])


def class_name(folder: str) -> str:
    """001.Black_footed_Albatross is the Black footed Albatross."""
    return folder.split(".", 1)[1].replace("_", " ")

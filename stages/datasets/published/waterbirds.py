"""Waterbirds (Sagawa et al., 2019): birds of CUB on land and on water, CUB's ood table (Sec. 4.4).

The table is their test split. The label is the species, of 200: the number before the dot of the
image's folder, minus 1. The authors publish no checksum, so that of the first archive that can
be read is recorded.
"""

import io

import pandas as pd

from stages.datasets.fetching.archives import Archive
from stages.datasets.fetching.tars import Listed, Tar
from stages.shared.errors import BadInput

ROOT = "waterbird_complete95_forest2water2"
WATERBIRDS = Archive(f"{ROOT}.tar.gz", "https://nlp.stanford.edu/data/dro/")
TEST = 2  # metadata.csv's split: 0 train, 1 validation, 2 test, with 4795, 1199 and 5794 images
KINDS = {0: "land", 1: "water"}  # of y, the bird's kind, and of place, where it is seen


def list_waterbirds(tar: Tar, classes: int) -> Listed:
    """Label and group of the test images; raises BadInput where metadata.csv is not what it was."""
    try:
        rows = pd.read_csv(io.BytesIO(tar.read(f"{ROOT}/metadata.csv")))
        rows = rows[rows["split"] == TEST].reset_index(drop=True)
        rows["label"] = [int(name.split(".")[0]) - 1 for name in rows["img_filename"]]
        rows["group"] = rows["y"].map(KINDS) + "bird_" + rows["place"].map(KINDS)
    except (KeyError, ValueError) as error:  # no such column; no number; no CSV
        raise BadInput(
            f"{tar.path}: metadata.csv cannot be read ({error}); get the archive anew"
        ) from None

    known = rows["label"].between(0, classes - 1) & rows["group"].notna()
    if rows.empty or not known.all():
        raise BadInput(
            f"{tar.path}: metadata.csv has no test image, or an unknown class or group; get it anew"
        )

    return Listed(rows[["label", "group"]], tar.members(ROOT + "/" + rows["img_filename"]))

"""What every dataset module hands to the download stage."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from stages.datasets.names import check_names


class Split(NamedTuple):
    """One table's content.

    `rows` has `label` and the split's own columns; `images` are encoded, one a row, made when they
    are asked for.
    """

    rows: pd.DataFrame
    images: Iterable[bytes]


@dataclass(frozen=True)
class Dataset:
    """A whole dataset; label k is called `classes[k]`.

    `splits` has train and test, and where the dataset knows them ood and masks. Masks are the
    foregrounds of train's images, one each, in their order: grey PNG, 255 on the object, 0 beside
    it. Raises BadInput for classes that people cannot tell apart.
    """

    classes: list[str]
    splits: dict[str, Split]

    def __post_init__(self):
        check_names(
            self.classes,
            "params.yaml: data.name: class {}".format,
            "rename it in a copy of the dataset, named at data.archive, or take another dataset",
        )

"""What every dataset module hands to the download stage."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Split(NamedTuple):
    """`rows` has `label` and the split's own columns; `images` are encoded, one a row, made when asked for."""

    rows: pd.DataFrame
    images: Iterable[bytes]


class Dataset(NamedTuple):
    """`splits` has train and test, and where the world knows them ood and masks; label k is called `classes[k]`.

    masks are the foregrounds of train's images, one each in their order: grey PNG, 255 on the object, 0 beside it.
    """

    classes: list[str]
    splits: dict[str, Split]

"""What every dataset module hands to the download stage."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Split(NamedTuple):
    """`rows` has `label` and the split's own columns; `images` are encoded, one a row, made when asked for."""

    rows: pd.DataFrame
    images: Iterable[bytes]


class Dataset(NamedTuple):
    """`splits` has train and test, and ood where the world has one; label k is called `classes[k]`."""

    classes: list[str]
    splits: dict[str, Split]

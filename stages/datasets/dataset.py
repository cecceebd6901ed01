"""What every dataset module hands to the download stage."""

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd


class Split(NamedTuple):
    """One table's content.

    `rows` has `label` and the split's own columns; `images` are encoded, one a row, made when they
    are asked for.
    """

    rows: pd.DataFrame
    images: Iterable[bytes]


class Dataset(NamedTuple):
    """A whole dataset; label k is called `classes[k]`.

    `splits` has train and test, and where the dataset knows them ood and masks. Masks are the
    foregrounds of train's images, one each, in their order: grey PNG, 255 on the object, 0 beside
    it.
    """

    classes: list[str]
    splits: dict[str, Split]

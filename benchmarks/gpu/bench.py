"""What every case is given, and what a group of cases is."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from benchmarks.gpu.sizes import Sizes
from benchmarks.gpu.timing import Budget, Row
from stages.shared.manifests import token_name


class Bench(NamedTuple):
    """A run of the benchmark."""

    sizes: Sizes
    folder: Path  # for models, tables and whatever is made
    budget: Budget

    def classes(self) -> pd.DataFrame:
        """Stand-ins for a dataset's classes, as classes.csv has them."""
        numbers = range(self.sizes.classes)
        return pd.DataFrame(
            {
                "index": numbers,
                "name": [f"bird {number}" for number in numbers],
                "metaclass": "bird",
                "token": [token_name(number) for number in numbers],
            }
        )


class Group(NamedTuple):
    """Cases that share models and data, and so are measured together."""

    title: str
    cases: tuple[str, ...]  # each has one line
    run: Callable[[Bench], Iterator[Row]]

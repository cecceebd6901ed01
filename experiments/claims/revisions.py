"""An experiment's outputs, read through DVC at the experiment's own git revision."""

import io
from functools import cache

import numpy as np
import pandas as pd
import yaml
from dvc.api import DVCFileSystem

from experiments.claims.evidence import Side
from stages.shared.errors import BadInput
from stages.shared.manifests import TEXT
from stages.shared.measuring.accuracy import read_answers, shot_groups
from stages.shared.paths import ASSESS, DOWNLOAD, SUBSAMPLE, TRAIN


class Run:
    """One experiment, by its git ref."""

    def __init__(self, ref: str):
        self.ref = ref
        self.files = DVCFileSystem(rev=ref)

    def open_text(self, path: str) -> io.StringIO:
        """A file as text; raises BadInput where DVC's cache has lost it."""
        try:
            return io.StringIO(self.files.read_text(path))
        except FileNotFoundError:
            name = self.ref.split("/")[-1]
            raise BadInput(
                f"{path} of {name}: not in DVC's cache; `dvc exp remove {name}`, then run again"
            ) from None

    def read_side(self, arm: str) -> Side:
        """An arm's answers, and its classes by their number of training images."""
        limits = yaml.safe_load(self.open_text("params.yaml"))["evaluate"]
        classes = len(pd.read_csv(self.open_text(f"{DOWNLOAD}/classes.csv")))
        labels = pd.read_csv(self.open_text(f"{SUBSAMPLE}/manifest.csv"))["label"]
        counts = np.bincount(labels, minlength=classes)
        shots = shot_groups(counts, limits["many"], limits["few"])

        path = f"{TRAIN}/{arm}/predictions.csv"
        return Side(read_answers(self.open_text(path), path), shots)

    def read_images(self) -> pd.DataFrame:
        """A row for each synthetic image, with what stage assess has measured of it."""
        file = self.open_text(f"{ASSESS}/images.csv")
        return pd.read_csv(file, dtype=TEXT)  # type: ignore[arg-type]


@cache
def open_run(ref: str) -> Run:
    """The experiment; one that many comparisons read is opened once."""
    return Run(ref)

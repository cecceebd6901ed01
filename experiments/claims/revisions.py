"""What an experiment has left, read through DVC at the experiment's own revision."""

import io
from functools import cache

import numpy as np
import pandas as pd
import yaml
from dvc.api import DVCFileSystem

from experiments.claims.evidence import Side
from stages.shared.errors import BadInput
from stages.shared.measuring.accuracy import read_answers, shot_groups
from stages.shared.paths import ASSESS, DOWNLOAD, SUBSAMPLE, TRAIN
from stages.shared.tables import TEXT


class Run:
    """One experiment, by its git ref."""

    def __init__(self, ref: str):
        self.ref, self.files = ref, DVCFileSystem(rev=ref)

    def text(self, path: str) -> io.StringIO:
        try:
            return io.StringIO(self.files.read_text(path))
        except FileNotFoundError:
            name = self.ref.split("/")[-1]
            raise BadInput(
                f"{path} of {name}: not in DVC's cache; `dvc exp remove {name}`, then run again"
            ) from None

    def side(self, arm: str) -> Side:
        params = yaml.safe_load(self.text("params.yaml"))
        classes = len(pd.read_csv(self.text(f"{DOWNLOAD}/classes.csv")))
        labels = pd.read_csv(self.text(f"{SUBSAMPLE}/manifest.csv"))["label"]
        counts, limits = np.bincount(labels, minlength=classes), params["evaluate"]
        path = f"{TRAIN}/{arm}/predictions.csv"
        return Side(
            read_answers(self.text(path), path), shot_groups(counts, limits["many"], limits["few"])
        )

    def images(self) -> pd.DataFrame:
        return pd.read_csv(self.text(f"{ASSESS}/images.csv"), dtype=TEXT)  # type: ignore[arg-type]


@cache
def open_run(ref: str) -> Run:
    return Run(ref)

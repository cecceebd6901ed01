"""Shared fixtures: the shipped base model, and a small training table."""

import os
from pathlib import Path

os.environ.setdefault(
    "OMP_WAIT_POLICY", "PASSIVE"
)  # before torch is imported: workers share the cores

import numpy as np
import pandas as pd
import pytest

from stages.datasets.toybirds.drawing import SPECIES, render
from stages.shared.tables import Table, encode_png, read_classes, write_classes, write_table

ROOT = Path(__file__).parents[1]
PIPELINE, CLIP = str(ROOT / "data/base/toybirds/pipeline"), str(ROOT / "data/base/toybirds/clip")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Six rendered birds of three species, two each."""
    from PIL import Image

    labels = [0, 0, 1, 1, 2, 2]
    birds = [
        render(SPECIES[k].bird, "water", np.random.default_rng(n), 32)[0]
        for n, k in enumerate(labels)
    ]
    write_table(
        tmp_path / "train",
        [encode_png(Image.fromarray(b)) for b in birds],
        pd.DataFrame({"label": labels}),
    )
    return Table(tmp_path / "train")


@pytest.fixture
def classes(tmp_path: Path) -> pd.DataFrame:
    write_classes(tmp_path, [species.name for species in SPECIES[:3]], "bird")
    return read_classes(tmp_path)

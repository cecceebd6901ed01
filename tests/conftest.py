"""Shared fixtures: the shipped base model, a small training table, and the end of all children."""

import os
from collections.abc import Iterator
from pathlib import Path

# Set before torch is imported: the workers of a test run share the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.datasets.toybirds.drawing import render
from stages.datasets.toybirds.species import SPECIES
from stages.shared.manifests import read_classes, write_classes
from stages.shared.tables import Table, encode_png, write_table
from tests.support.children import end_children, enter_run

ROOT = Path(__file__).parents[1]
BASE = ROOT / "data/base/toybirds"
PIPELINE = str(BASE / "pipeline")
CLIP = str(BASE / "clip")

SLOW_SECONDS = 3600  # the time limit of a slow test; pyproject.toml has that of the others
RUN, WORKER = enter_run()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(SLOW_SECONDS))


@pytest.fixture(scope="module", autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    end_children(RUN, WORKER)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the children of workers that have died themselves; workers are called gw0, gw1, …"""
    shares_work = session.config.getoption("numprocesses", None) and WORKER == "main"
    end_children(RUN, "gw" if shares_work else WORKER)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Six rendered birds of three species, two each."""
    labels = [0, 0, 1, 1, 2, 2]

    images = []
    for row, label in enumerate(labels):
        bird, *_ = render(SPECIES[label].bird, "water", np.random.default_rng(row), 32)
        images.append(encode_png(Image.fromarray(bird)))
    write_table(tmp_path / "train", images, pd.DataFrame({"label": labels}))

    return Table(tmp_path / "train")


@pytest.fixture
def classes(tmp_path: Path) -> pd.DataFrame:
    write_classes(tmp_path, [species.name for species in SPECIES[:3]], "bird")
    return read_classes(tmp_path)

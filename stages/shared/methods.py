"""The method cube: what each of the paper's method names stands for.

Also reads what the stage `method` has resolved the chosen name to.
"""

import json
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from stages.shared.errors import BadInput
from stages.shared.paths import METHOD

Strategy = Literal["none", "ti", "db", "ti+db"]
Mode = Literal["mix", "aug", "gen"]
Criterion = Literal["metaclass", "class"]
Name = Literal[
    "diff-mix", "diff-aug", "diff-gen",
    "real-mix", "real-aug", "real-gen",
    "real-guidance", "real-filtering", "da-fusion",
]  # fmt: skip


class Method(NamedTuple):
    """A point of the cube."""

    strategy: Strategy  # how the base model is fine-tuned
    mode: Mode  # where synthetic images start from
    strength: tuple[float, ...]  # how much noise they start with, one drawn for each image
    drop: float = 0.0  # the share that the filter leaves out
    criterion: Criterion = "metaclass"  # what the filter asks CLIP for


PAPER = (0.5, 0.7, 0.9)  # Sec. 4.2; images from noise have strength 1
# Sec. 3.4 cleans what is translated between classes, supplement 7.1 and 10 say how, and that
# Real-filtering is Real-Gen cleaned so; of no other method is it said
TENTH = 0.1
METHODS: dict[Name, Method] = {
    "diff-mix": Method("ti+db", "mix", PAPER, TENTH),
    "diff-aug": Method("ti+db", "aug", PAPER),
    "diff-gen": Method("ti+db", "gen", (1.0,)),
    "real-mix": Method("none", "mix", PAPER, TENTH),
    "real-aug": Method("none", "aug", PAPER),
    "real-gen": Method("none", "gen", (1.0,)),
    # the two of He et al., 2023, and the one of Trabucco et al., 2023, as Sec. 4.2 compares them
    "real-guidance": Method("none", "aug", (0.1,)),
    "real-filtering": Method("none", "gen", (1.0,), TENTH),
    "da-fusion": Method("ti", "aug", (0.25, 0.5, 0.75, 1.0)),
}
NAMES: tuple[Name, ...] = get_args(Name)
TITLES: dict[Name, str] = {  # as in the paper's tables
    "diff-mix": "Diff-Mix", "diff-aug": "Diff-Aug", "diff-gen": "Diff-Gen",
    "real-mix": "Real-Mix", "real-aug": "Real-Aug", "real-gen": "Real-Gen",
    "real-guidance": "Real-guidance", "real-filtering": "Real-filtering", "da-fusion": "DA-Fusion",
}  # fmt: skip


def learns_tokens(strategy: Strategy) -> bool:
    return strategy in ("ti", "ti+db")


def learns_lora(strategy: Strategy) -> bool:
    return strategy in ("db", "ti+db")


def read_strategy(folder: Path = METHOD) -> Strategy:
    """How the base model learns the classes."""
    return _read(folder / "finetune.json")["strategy"]


def read_mode(folder: Path = METHOD) -> tuple[Mode, list[float]]:
    """Where synthetic images start from, and the strengths to draw from."""
    choice = _read(folder / "plan.json")
    return choice["mode"], choice["strength"]


def read_filter(folder: Path = METHOD) -> tuple[Criterion, float]:
    """What the filter asks CLIP for, and the share that it leaves out."""
    choice = _read(folder / "filter.json")
    return choice["criterion"], choice["drop"]


def _read(path: Path) -> dict:
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro method` first")

    return json.loads(path.read_text())

"""A run in progress, for those who watch it: losses and pictures, by Accelerate's trackers.

    DIFFMIX_TRACK=tensorboard,wandb dvc repro

Files go to `.work/track/<stage>/<key>/`, outside of DVC's outputs: what is recorded is no part of a
result, and moves none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from PIL import Image

from stages.shared.errors import BadInput

VARIABLE = "DIFFMIX_TRACK"
PROJECT = "diff-mix"
WANDB = "wandb"
STEP = "step"  # wandb's axis


class Tracker:
    """Where a stage's values and pictures go, in a folder and to services."""

    def __init__(self, folder: Path, loggers: list[Any]):
        self.folder = folder
        self.loggers = loggers

    def log(self, values: dict[str, float], step: int) -> None:
        """Record the values of a step."""
        for logger in self.loggers:
            if logger.name == WANDB:
                logger.log(values | {STEP: step})
            else:
                logger.log(values, step=step)

    def picture(self, name: str, image: Image.Image, step: int) -> None:
        """Write <folder>/<name>-<step>.png; to services that take pictures it goes, too."""
        self.folder.mkdir(parents=True, exist_ok=True)
        image.save(self.folder / f"{name}-{step:06d}.png")

        pixels = np.asarray(image)[None]
        for logger in self.loggers:
            if hasattr(logger, "log_images"):
                options: dict[str, Any] = {} if logger.name == WANDB else {"step": step}
                if logger.name == "tensorboard":
                    options["dataformats"] = "NHWC"
                logger.log_images({name: pixels}, **options)


NOWHERE = Tracker(Path(".work/track"), [])


def check_tracking() -> None:
    """Raises BadInput for a tracker that Accelerate does not know, or that is not installed."""
    known = sorted(map(str, LOGGER_TYPE_TO_CLASS))
    installed = list(map(str, get_available_trackers()))

    for name in asked():
        if name not in known:
            raise BadInput(f"{VARIABLE}: {name!r} is none of {', '.join(known)}; unset it")
        if name not in installed:
            raise BadInput(f"{VARIABLE}: {name} is not installed; install it, or unset it")


def asked() -> list[str]:
    """The names of the trackers that the environment asks for."""
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def flatten(params: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Values by their dotted paths; what is neither number nor word, a list say, becomes a word."""
    found: dict[str, Any] = {}
    for name, value in params.items():
        if isinstance(value, dict):
            found |= flatten(value, f"{path}{name}.")
        else:
            plain = isinstance(value, bool | int | float | str)
            found[path + name] = value if plain else str(value)
    return found


@contextmanager
def track(work: Path, params: dict[str, Any]) -> Iterator[Tracker]:
    """The trackers of a stage's run, whose work folder is `work`; `params` are its parameters."""
    folder = tracking_folder(work)
    loggers = [open_logger(name, folder / name) for name in asked()]
    for logger in loggers:
        logger.store_init_configuration(flatten(params))

    try:
        yield Tracker(folder, loggers)
    finally:
        for logger in loggers:
            logger.finish()


def tracking_folder(work: Path) -> Path:
    """.work/track/<stage>/<key> for the work folder .work/<stage>/<key>."""
    root = next(parent for parent in work.parents if parent.name == ".work")
    return root / "track" / work.relative_to(root)


def open_logger(name: str, folder: Path) -> Any:
    """Accelerate's tracker of that name, whose files are in `folder`."""
    kind = LOGGER_TYPE_TO_CLASS[name]
    if name == "dvclive":
        # the run is an experiment of DVC's already; without `resume` what is there would be removed
        options = {"save_dvc_exp": False, "report": None, "dvcyaml": None, "resume": True}
        logger = kind(PROJECT, dir=str(folder), **options)
    elif kind.requires_logging_directory:
        logger = kind(PROJECT, logging_dir=folder)
    else:
        logger = kind(PROJECT)

    logger.start()
    if name == WANDB:
        # its own steps only grow, and what lies behind is dropped: each trial begins anew at 0
        logger.tracker.define_metric("*", step_metric=STEP)
    return logger

"""Parameters of the stage evaluate, and the names of the arms."""

import re
from shlex import quote
from typing import Any

from pydantic import Field, field_validator, model_validator

from stages.shared.errors import BadInput
from stages.shared.params import Section, quoted
from stages.shared.paths import TRAIN

BASELINE = "baseline"
# an arm's name is a word of a command, a step of a parameter's path and the name of a folder
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
PER_CLASS_COLUMNS = ["class", "train_images"]


class Evaluate(Section):
    """Which classes are many-shot and few-shot, and how many resamples the intervals take."""

    many: int = Field(ge=0)
    few: int = Field(ge=0)
    bootstrap: int = Field(ge=1)

    @model_validator(mode="after")
    def check_thresholds(self) -> "Evaluate":
        if self.few > self.many:
            raise ValueError(
                "few must not be above many; a class is many-shot above many, few-shot below few"
            )

        return self


class Params(Section):
    """What the stage reads of params.yaml."""

    evaluate: Evaluate
    arms: dict[str, dict[str, Any]]  # one leaf: what the arms do is the training stages' affair

    @field_validator("arms")
    @classmethod
    def check_names(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """There is a baseline, and each arm has a name of its own that can name a folder."""
        if BASELINE not in arms.get("real", {}):
            raise ValueError("real must hold the arm baseline, against which gains are measured")

        names = arm_names(arms)
        for name in names:
            if not ARM_NAME.fullmatch(str(name)) or name in PER_CLASS_COLUMNS:
                raise ValueError(
                    f"{quoted(name)} cannot be an arm's name; "
                    "use at most 64 letters, digits, - and _"
                )

        lowered = [name.lower() for name in names]  # some file systems do not tell case
        for name in names:
            if lowered.count(name.lower()) > 1:
                raise ValueError(f"{name} appears twice; give each arm a name of its own")

        return arms


def arm_names(arms: dict[str, dict[str, Any]]) -> list[str]:
    """The names of all arms, in the order of params.yaml."""
    return [name for group in arms.values() for name in group]


def check_orphans(arms: list[str]) -> None:
    """Raises BadInput for what a removed arm left: DVC would hash it into this stage's inputs."""
    if not TRAIN.is_dir():
        return

    left = sorted(str(path) for path in TRAIN.iterdir() if path.name not in arms)
    if left:
        raise BadInput(
            f"{', '.join(left)}: no arm of params.yaml's; `rm -r {' '.join(map(quote, left))}` "
            "(another commit's `dvc checkout` brings it back), or add the arm again"
        )

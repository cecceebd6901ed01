"""Parameters of the stage plan."""

from typing import Literal

from pydantic import Field, model_validator

from stages.shared.errors import BadInput
from stages.shared.methods import Mode
from stages.shared.params import Section, Seed
from stages.shared.pretrained.reference import Pretrained


class Subset(Section):
    """Whether the training images are a long tail, for which the plan makes a reversed one."""

    mode: Literal["full", "few-shot", "long-tail"]


class Synth(Section):
    """How many images are planned, and which classes lend their images as references."""

    multiplier: float = Field(gt=0)
    referable_classes: int | None = Field(ge=1)
    pairing: Literal["any", "adjacent"]

    @model_validator(mode="after")
    def check_pairing(self) -> "Synth":
        """Adjacent classes are a number of nearest ones."""
        if self.pairing == "adjacent" and self.referable_classes is None:
            raise ValueError(
                "pairing adjacent needs a number of neighbours; set synth.referable_classes"
            )

        return self


class Params(Section):
    """What the stage reads of params.yaml."""

    seed: Seed
    subset: Subset
    synth: Synth
    clip: Pretrained


def check_choice(mode: Mode, synth: Synth) -> None:
    """Raises BadInput for a choice of other classes in a mode that refers to none."""
    if mode != "mix" and synth.referable_classes is not None:
        raise BadInput(
            f"params.yaml: synth.referable_classes: mode {mode} takes no reference from another "
            "class; set it to null, or take a -mix method"
        )

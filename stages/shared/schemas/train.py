"""Parameters of the stage train: the classifiers' recipe, and an arm of either group."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from stages.shared.classifier.choices import (
    LEAST_CMO_EPOCHS,
    LEAST_DRW_EPOCHS,
    VIT_PATCH,
    VIT_PRETRAINED_RESOLUTION,
    Architecture,
    Augmentation,
    Gamma,
    Mix,
    Schedule,
    check_gamma_count,
)
from stages.shared.errors import BadInput
from stages.shared.methods import Method
from stages.shared.params import PATH, Section, Seed
from stages.shared.pretrained.reference import Pretrained


class Train(Section):
    """The classifiers' recipe, the same for all arms."""

    architecture: Architecture
    pretrained: bool
    resize: int = Field(ge=8)
    resolution: int = Field(ge=8)
    padding: int = Field(ge=0)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=3)  # equal parts of at least two: what batch normalisation needs
    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    schedule: Schedule
    augmentation: Augmentation
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    trials: int = Field(ge=1)

    @model_validator(mode="after")
    def check_resolution(self) -> "Train":
        """A crop lies inside the padded image, and a ViT's patches fill it."""
        vit = self.architecture == "vit_b_16"

        if self.augmentation == "crop" and self.resolution > self.resize + 2 * self.padding:
            raise ValueError(
                "resolution must be at most resize + 2 * padding; "
                "enlarge train.resize or train.padding"
            )
        if self.augmentation == "resized-crop" and self.resolution > self.resize:
            raise ValueError("resolution must be at most resize; enlarge train.resize")

        if vit and self.resolution % VIT_PATCH:
            raise ValueError(f"vit_b_16 needs a resolution that is a multiple of {VIT_PATCH}")
        if vit and self.pretrained and self.resolution != VIT_PRETRAINED_RESOLUTION:
            raise ValueError(
                f"pretrained vit_b_16 needs a resolution of {VIT_PRETRAINED_RESOLUTION}"
            )

        if self.architecture == "small_resnet" and self.pretrained:
            raise ValueError(
                "small_resnet has no pretrained weights; set train.pretrained to false"
            )

        return self


class RealArm(Section):
    """An arm that is trained on real images alone."""

    mix: Mix
    mix_probability: float = Field(ge=0, le=1)
    reweight: Literal["none", "drw"]


class RealParams(Section):
    """What the stage reads of params.yaml for a real arm; `arm` is that arm's section."""

    seed: Seed
    train: Train
    arm: RealArm

    @field_validator("arm")
    @classmethod
    def check_schedule(cls, arm: RealArm, info: ValidationInfo) -> RealArm:
        """The training has epochs in which DRW and CMO are at work.

        DRW begins at the step schedule's first milestone; CMO pauses in the first and last epochs.
        """
        if "train" not in info.data:  # it is wrong itself, and pydantic says so
            return arm

        recipe = info.data["train"]
        if arm.reweight == "drw" and recipe.schedule != "step":
            raise ValueError("drw needs train.schedule step; set that, or reweight: none")
        if arm.reweight == "drw" and recipe.epochs < LEAST_DRW_EPOCHS:
            raise ValueError(
                f"drw needs at least {LEAST_DRW_EPOCHS} epochs; "
                "raise train.epochs, or set reweight: none"
            )
        if arm.mix == "cmo" and recipe.epochs < LEAST_CMO_EPOCHS:
            raise ValueError(
                f"cmo needs at least {LEAST_CMO_EPOCHS} epochs; "
                "raise train.epochs, or set mix: none"
            )

        return arm


class SyntheticArm(RealArm):
    """An arm that replaces real images by synthetic ones."""

    p: float = Field(ge=0, le=1)  # probability for each image
    labels: Literal["eq3", "baseline", "clip"]


class Synth(Section):
    """The part of the synthesis' parameters that labels depend on."""

    gamma: Gamma


class SyntheticParams(RealParams):
    """What the stage reads of params.yaml for a synthetic arm."""

    arm: SyntheticArm
    synth: Synth
    clip: Pretrained


def check_gamma(method: Method, gamma: float | list[float]) -> None:
    """Raises BadInput for a list that has not one number for each of the method's strengths."""
    if isinstance(gamma, list) and method.mode != "mix":
        raise BadInput(
            f"{PATH}: synth.gamma: mode {method.mode} has no second class to weigh; give one number"
        )

    check_gamma_count(gamma, method.strength)

"""Parameters of the stage finetune."""

from pydantic import Field

from stages.shared.params import Section, Seed
from stages.shared.pretrained.reference import Pretrained


class Finetune(Section):
    """How the base model learns the classes."""

    lora_rank: int = Field(ge=1)
    learning_rate: float = Field(gt=0)  # of LoRA
    token_learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    class_balanced: bool
    resolution: int = Field(ge=8)


class Params(Section):
    """What the stage reads of params.yaml."""

    seed: Seed
    base: Pretrained
    finetune: Finetune

"""Parameters of the stage method, and the method that they name."""

from typing import Annotated

from pydantic import Field, model_validator

from stages.shared.methods import (
    METHODS,
    Criterion,
    Method,
    Name,
    Strategy,
    learns_lora,
    learns_tokens,
)
from stages.shared.params import Section

Strength = Annotated[float, Field(gt=0, le=1)]
FIXED_STRENGTH = ("real-guidance", "da-fusion")  # names that stand for their strengths


class Finetune(Section):
    """Another strategy than the method's; null keeps that."""

    strategy: Strategy | None


class Synth(Section):
    """Other strengths than the method's; null keeps those."""

    strength: list[Strength] | None = Field(min_length=1)


class Filter(Section):
    """Another criterion or share than the method's; null keeps that."""

    criterion: Criterion | None
    drop: float | None = Field(ge=0, lt=1)


class Params(Section):
    """What the stage reads of params.yaml: a method, and overrides that must go with its name."""

    method: Name
    finetune: Finetune
    synth: Synth
    filter: Filter

    @model_validator(mode="after")
    def check_strategy(self) -> "Params":
        """A method's name says whether it learns; da-fusion learns by Textual Inversion alone."""
        own = METHODS[self.method].strategy
        chosen = self.finetune.strategy

        if chosen and learns(chosen) != learns(own):
            other = "real-*" if learns(own) else "diff-*"
            raise ValueError(
                f"{self.method} does not go with finetune.strategy {chosen}; "
                f"set it to null, or take {other}"
            )
        if chosen and self.method == "da-fusion" and chosen != own:
            raise ValueError(f"da-fusion is {own} by definition; set finetune.strategy to null")

        return self

    @model_validator(mode="after")
    def check_drop(self) -> "Params":
        """Real-filtering is Real-Gen of which the filter drops some."""
        drops = self.filter.drop
        if self.method == "real-filtering" and drops == 0:
            raise ValueError(
                "real-filtering drops images; set filter.drop to null, or take real-gen"
            )
        if self.method == "real-gen" and drops:
            raise ValueError(
                "real-gen drops no image; set filter.drop to null, or take real-filtering"
            )

        return self

    @model_validator(mode="after")
    def check_strength(self) -> "Params":
        """A -gen method has no strength, and some methods' strengths are part of their names."""
        if not self.synth.strength:
            return self

        if METHODS[self.method].mode == "gen":
            raise ValueError(
                f"{self.method} starts from noise and has no strength; set synth.strength to null"
            )
        if self.method in FIXED_STRENGTH:
            aug = "real-aug" if self.method == "real-guidance" else "diff-aug"
            raise ValueError(
                f"{self.method} has strengths of its own; set synth.strength to null, or take {aug}"
            )

        return self


def learns(strategy: Strategy) -> bool:
    """Whether the base model is fine-tuned at all."""
    return learns_tokens(strategy) or learns_lora(strategy)


def resolve(params: Params) -> Method:
    """The method with the overrides of params.yaml."""
    method = METHODS[params.method]
    drop = params.filter.drop

    return Method(
        params.finetune.strategy or method.strategy,
        method.mode,
        tuple(params.synth.strength or method.strength),
        method.drop if drop is None else drop,
        params.filter.criterion or method.criterion,
    )

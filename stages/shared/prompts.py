"""The captions of a class: one place, so that fine-tuning and synthesis say the same words."""

from typing import Literal

import pandas as pd

Strategy = Literal["none", "ti", "db", "ti+db"]


def class_prompts(classes: pd.DataFrame, strategy: Strategy) -> list[str]:
    """One prompt per class: "[V_i] [metaclass]" where tokens are learned (Sec. 3.3), else the class's own name."""
    column = "token" if learns_tokens(strategy) else "name"
    return [
        f"a photo of a {word} {metaclass}"
        for word, metaclass in zip(classes[column], classes["metaclass"], strict=True)
    ]


def learns_tokens(strategy: Strategy) -> bool:
    return strategy in ("ti", "ti+db")


def learns_lora(strategy: Strategy) -> bool:
    return strategy in ("db", "ti+db")

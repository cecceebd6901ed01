"""The captions of a class, written here alone: fine-tuning and synthesis say the same words."""

import pandas as pd

from stages.shared.methods import Strategy, learns_tokens


def class_prompts(classes: pd.DataFrame, strategy: Strategy) -> list[str]:
    """One prompt per class.

    "[V_i] [metaclass]" where tokens are learned (Sec. 3.3), else the class's own name for V_i.
    """
    column = "token" if learns_tokens(strategy) else "name"

    return [
        f"a photo of a {word} {metaclass}"
        for word, metaclass in zip(classes[column], classes["metaclass"], strict=True)
    ]

"""What a classifier's parameters may be: names, limits and γ.

Imports no torch, so that parameters are checked in no time.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from stages.shared.errors import BadInput

Architecture = Literal["small_resnet", "resnet18", "resnet50", "vit_b_16"]
Augmentation = Literal["crop", "resized-crop"]
Mix = Literal["none", "cutmix", "mixup", "cmo"]
Schedule = Literal["cosine", "step"]

VIT_PATCH = 16  # pixels
VIT_PRETRAINED_RESOLUTION = 384  # of IMAGENET1K_SWAG_E2E_V1, whose position embeddings fit no other
# As in naver-ai/cmo, the first four epochs (0 to 3) and the last three are not mixed.
CMO_REST = 3
LEAST_CMO_EPOCHS = 2 * CMO_REST + 2  # with fewer, no epoch would be mixed
LEAST_DRW_EPOCHS = 5  # with fewer, no epoch comes after the step schedule's first milestone


def _check_gamma(value: Any) -> Any:
    numbers = value if isinstance(value, list) and value else [value]
    for number in numbers:
        if type(number) not in (int, float) or not math.isfinite(number) or number < 0:
            raise ValueError(
                "must be a number of at least 0, or a list with one for each strength, ascending"
            )

    return [float(number) for number in value] if isinstance(value, list) else float(value)


Gamma = Annotated[float | list[float], PlainValidator(_check_gamma)]


def check_gamma_count(gamma: float | list[float], strengths: Sequence[float]) -> None:
    """Raises BadInput for a list without exactly one gamma for each of the method's strengths."""
    present = sorted(set(strengths))

    if isinstance(gamma, list) and len(gamma) != len(present):
        raise BadInput(
            f"params.yaml: synth.gamma: has {len(gamma)} numbers for {len(present)} strengths "
            f"({', '.join(f'{strength:g}' for strength in present)}); "
            "give one for each, or a single number for all"
        )

"""Model cards for what leaves the pipeline: Markdown with the Hugging Face hub's header."""

from typing import Any

import pandas as pd

from stages.shared.serving.packed import WEIGHTS, Config

MANY = 40  # classes; of more the card names the number alone

CLASSIFIER = """\
---
library_name: pytorch
pipeline_tag: image-classification
tags: [diff-mix, image-classification]
---

# {config.architecture}, arm {config.arm} ({config.method})

It tells {classes}.

{measures}

An image is squeezed to {config.resize} × {config.resize} pixels; of this, the middle \
{config.resolution} × {config.resolution} are shown to the network, normalised by ImageNet's mean \
and deviation.

Use: `python -m stages.predict FOLDER IMAGE`, or load `{weights}`, in whose header stand classes, \
architecture and preprocessing. Made at commit {config.commit}, trial {config.trial}.
"""

MODEL = """\
---
library_name: diffusers
base_model: {base}
pipeline_tag: text-to-image
tags: [diff-mix, lora, textual-inversion]
---

# {classes}, learned by {base} ({method})

LoRA of rank {rank} and a token for each class, of {steps} steps; `classes.csv` says which token \
is whose.

{measures}

```python
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline

folder = Path("FOLDER")
pipeline = StableDiffusionPipeline.from_pretrained("{base}", torch_dtype=torch.float32)
pipeline.load_lora_weights(folder)
for path in sorted((folder / "tokens").glob("*.safetensors")):
    pipeline.load_textual_inversion(path, token=f"<{{path.stem}}>")
image = pipeline("a photo of a {token} {metaclass}").images[0]
```

Made at commit {commit}.
"""


def describe_classifier(config: Config, measured: dict[str, Any], gain: dict[str, Any]) -> str:
    """What a classifier is, how good, and how to use it.

    `measured` and `gain` are its arm's parts of metrics/evaluate.json.
    """
    lines = [f"- top-1 on the test images: {config.top1:.2f} %"]
    if "top1" in measured:
        lines.append(f"- mean over the arm's trials: {measured['top1']:.2f} %")
    if "top1_ci" in gain:
        low, high = gain["top1_ci"]
        lines.append(
            f"- against the baseline: {gain['top1']:+.2f} points, 95 % interval "
            f"{low:+.2f} to {high:+.2f}, over trials and test images"
        )
    if "waterbird" in measured:
        lines.append(f"- worst Waterbird group: {measured['waterbird']['worst']:.2f} %")

    return CLASSIFIER.format(
        config=config,
        classes=list_classes(config.classes),
        measures="\n".join(lines),
        weights=WEIGHTS,
    )


def describe_model(
    params: dict[str, Any], classes: pd.DataFrame, assess: dict[str, Any], commit: str
) -> str:
    """What was learned, how true its images are, and how diffusers loads it.

    `assess` is metrics/assess.json.
    """
    faithful = assess.get("faithfulness", {})
    measures = "Its images were not measured."
    if "all" in faithful:
        measures = f"Faithfulness of its images, by {faithful['measure']}: {faithful['all']:g}."

    return MODEL.format(
        base=params["base"]["id"],
        classes=f"{len(classes)} {' / '.join(classes['metaclass'].unique())} classes",
        commit=commit,
        measures=measures,
        metaclass=classes["metaclass"].iloc[0],
        method=params["method"],
        rank=params["finetune"]["lora_rank"],
        steps=params["finetune"]["steps"],
        token=classes["token"].iloc[0],
    )


def list_classes(names: list[str]) -> str:
    """How many, and which where they are not too many."""
    count = f"{len(names)} classes"
    return count if len(names) > MANY else f"{count}: {', '.join(names)}"

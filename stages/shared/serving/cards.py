"""Model cards for what leaves the pipeline: Markdown with the Hugging Face hub's header."""

from typing import Any, NamedTuple

import pandas as pd

from stages.shared.serving.packed import WEIGHTS, Config

MANY = 40  # classes; of more the card names the number alone

CLASSIFIER = """\
---
library_name: pytorch
pipeline_tag: image-classification
tags: [diff-mix, image-classification]
---

# {config.architecture}, arm {config.arm}{method}

It tells {classes}.

{measures}

An image is squeezed to {config.resize} × {config.resize} pixels; of this, the middle \
{config.resolution} × {config.resolution} are shown to the network, normalised by ImageNet's mean \
and deviation.

In a clone of the project that made it, `python -m stages.predict FOLDER IMAGE` asks it. Elsewhere \
load `{weights}`, in whose header stand classes, architecture and preprocessing. Made at commit \
{config.commit}, trial {config.trial}.
{onnx}"""

ONNX = """
Without the project, and without PyTorch:

```python
import json
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

folder = Path("FOLDER")
config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
side, crop = config["resize"], config["resolution"]
edge = round((side - crop) / 2)

image = ImageOps.exif_transpose(Image.open("IMAGE"))  # upright
image = image.convert("RGB").resize((side, side), Image.BILINEAR)
image = image.crop((edge, edge, edge + crop, edge + crop))
pixels = np.asarray(image).transpose(2, 0, 1)[None]  # bytes, (1, 3, crop, crop)

session = onnxruntime.InferenceSession(folder / "model.onnx")
(probabilities,) = session.run(None, {"pixels": pixels})
best = probabilities[0].argmax()
print(config["classes"][best], probabilities[0, best])
```
"""

MODEL = """\
---
library_name: diffusers
base_model: {base}
pipeline_tag: text-to-image
tags: [diff-mix, {tags}]
---

# {classes}, learned by {base} ({method})

Of {steps} steps: {learned}.

{measures}

```python
{snippet}
```

Made at commit {commit}.
"""

TOKENS = {  # how diffusers loads a class's token, by the number of text encoders
    1: """\
for path in sorted((folder / "tokens").glob("*.safetensors")):
    pipeline.load_textual_inversion(path, token=f"<{path.stem}>")""",
    2: """\
for path in sorted((folder / "tokens").glob("*.safetensors")):
    token, tensors = f"<{path.stem}>", load_file(path)
    first = {"text_encoder": pipeline.text_encoder, "tokenizer": pipeline.tokenizer}
    second = {"text_encoder": pipeline.text_encoder_2, "tokenizer": pipeline.tokenizer_2}
    pipeline.load_textual_inversion(tensors["clip_l"], token=token, **first)
    pipeline.load_textual_inversion(tensors["clip_g"], token=token, **second)""",
}


class Learned(NamedTuple):
    """What a fine-tuned model is made of."""

    params: dict[str, Any]  # stage finetune's, by their dotted paths
    method: str
    has_lora: bool
    encoders: int  # text encoders that have a vector for each class; 0 where no token was learned
    commit: str


def describe_classifier(
    config: Config, measured: dict[str, Any], gain: dict[str, Any], onnx: bool
) -> str:
    """What a classifier is, how good, and how to use it.

    `measured` and `gain` are its arm's parts of metrics/evaluate.json; `onnx`: whether model.onnx
    lies beside it.
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
        method=f" ({config.method})" if config.method else "",
        classes=list_classes(config.classes),
        measures="\n".join(lines),
        onnx=ONNX if onnx else "",
        weights=WEIGHTS,
    )


def describe_model(model: Learned, classes: pd.DataFrame, assess: dict[str, Any]) -> str:
    """What was learned, how true its images are, and how diffusers loads it.

    `assess` is metrics/assess.json.
    """
    faithful = assess.get("faithfulness", {})
    measures = "Its images were not measured."
    if "all" in faithful:
        measures = f"Faithfulness of its images, by {faithful['measure']}: {faithful['all']:g}."

    parts = {f"LoRA of rank {model.params['finetune.lora_rank']}": model.has_lora}
    parts["a token for each class (`classes.csv` says which is whose)"] = model.encoders > 0
    tags = {"lora": model.has_lora, "textual-inversion": model.encoders > 0}

    return MODEL.format(
        base=model.params["base.id"],
        classes=f"{len(classes)} {' / '.join(classes['metaclass'].unique())} classes",
        commit=model.commit,
        learned=" and ".join(part for part, there in parts.items() if there),
        measures=measures,
        method=model.method,
        snippet=write_snippet(model, classes),
        steps=model.params["finetune.steps"],
        tags=", ".join(tag for tag, there in tags.items() if there),
    )


def write_snippet(model: Learned, classes: pd.DataFrame) -> str:
    """The lines of Python that load the model and draw the first class."""
    first = classes.iloc[0]
    word = first["token"] if model.encoders else first["name"]
    revision = model.params.get("base.revision")
    pinned = f', revision="{revision}"' if revision else ""

    lines = ["from pathlib import Path", "", "import torch"]
    lines.append("from diffusers import DiffusionPipeline")
    if model.encoders == 2:
        lines.append("from safetensors.torch import load_file")

    lines += [
        "",
        'folder = Path("FOLDER")',
        f'base = "{model.params["base.id"]}"',
        f"pipeline = DiffusionPipeline.from_pretrained(base{pinned}, torch_dtype=torch.float32)",
    ]
    if model.has_lora:
        lines.append("pipeline.load_lora_weights(folder)")
    if model.encoders:
        lines.append(TOKENS[model.encoders])
    lines.append(f'image = pipeline("a photo of a {word} {first["metaclass"]}").images[0]')

    return "\n".join(lines)


def list_classes(names: list[str]) -> str:
    """How many, and which where they are not too many."""
    count = f"{len(names)} classes"
    return count if len(names) > MANY else f"{count}: {', '.join(names)}"

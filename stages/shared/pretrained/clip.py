"""CLIP: loading it, and the unit vectors that it makes of images and captions."""

from collections.abc import Sequence

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from stages.shared.pretrained.files import CLIP, find_folder, unloadable
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.ahead import ahead
from stages.shared.running.processes import gather, share
from stages.shared.running.runtime import (
    BATCH,
    device,
    own_cores,
    precision,
    thread_pool,
    to_device,
)
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress


def load_clip(clip: Pretrained) -> tuple[CLIPModel, CLIPProcessor]:
    """CLIP and its processor.

    Raises BadInput for what is no CLIP, lacks files, or cannot be fetched.
    """
    folder = find_folder("clip", clip, CLIP)

    try:
        model = CLIPModel.from_pretrained(
            folder, use_safetensors=True, dtype=precision(), local_files_only=True
        )
        processor = CLIPProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise unloadable("clip", clip, error) from None

    return model.to(device()).eval(), processor


@torch.inference_mode()
def image_features(table: Table, model: CLIPModel, processor: CLIPProcessor) -> Tensor:
    """The table's images as unit vectors, float32 (n, width), on the CPU.

    Several processes share the batches.
    """
    firsts = share(range(0, len(table), BATCH))
    # first an empty part, so that an empty table has features of the same width
    parts = {-1: torch.empty(0, model.config.projection_dim)}

    def read(first: int) -> Tensor:
        images = [table.image(row) for row in range(first, min(first + BATCH, len(table)))]
        return processor(images=images, return_tensors="pt")["pixel_values"]

    # threads decode and resize, which takes more time than a GPU's forward pass
    with thread_pool() as pool:
        loaded = ahead(pool, read, firsts, count=2 * own_cores())
        waiting: list[tuple[int, Tensor]] = []

        for first, pixels in Progress(loaded, "CLIP", len(firsts), disable=len(table) < 1000):
            values = to_device(pixels, device()).to(model.dtype)
            pooled = model.vision_model(pixel_values=values).pooler_output
            waiting.append((first, model.visual_projection(pooled).float()))

            # fetched when the next batch is under way
            if len(waiting) > 1:
                done, features = waiting.pop(0)
                parts[done] = features.cpu()

    parts |= {first: features.cpu() for first, features in waiting}
    return torch.nn.functional.normalize(torch.cat(list(gather(parts).values())), dim=1)


@torch.inference_mode()
def text_features(captions: Sequence[str], model: CLIPModel, processor: CLIPProcessor) -> Tensor:
    """The captions as unit vectors, float32 (n, width), on the CPU."""
    tokens = processor(text=list(captions), return_tensors="pt", padding=True, truncation=True)
    pooled = model.text_model(**tokens.to(device())).pooler_output
    features = model.text_projection(pooled).float().cpu()

    return torch.nn.functional.normalize(features, dim=1)


def prototypes(features: Tensor, labels: Sequence[int], classes: int) -> Tensor:
    """The direction of each class's images, unit vectors (classes, width).

    A class without images has zeros.
    """
    sums = torch.zeros(classes, features.shape[1]).index_add(0, torch.tensor(labels), features)
    return torch.nn.functional.normalize(sums, dim=1)


def logits(images: Tensor, texts: Tensor, model: CLIPModel) -> Tensor:
    """CLIP's scaled similarities, (images, texts)."""
    return float(model.logit_scale.detach().exp()) * images @ texts.T

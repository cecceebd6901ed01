"""Leave out the synthetic images in which CLIP sees the metaclass least (Sec. 3.4; captions in the supplement).

Reads data/synthesize/ and classes.csv. Writes data/filter/{manifest,dropped}.csv with scores, and metrics/filter.json.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from tqdm import tqdm
from transformers import CLIPModel, CLIPProcessor

from stages.shared.errors import BadInput
from stages.shared.params import Section, load
from stages.shared.runtime import batch_size, device, precision, seed_everything
from stages.shared.tables import Table, read_classes, write_manifest

IMAGES, CLASSES = Path("data/synthesize"), Path("data/download")
OUTPUT, METRICS = Path("data/filter"), Path("metrics/filter.json")


class Filter(Section):
    clip: str = Field(min_length=1)
    revision: str | None
    drop: float = Field(ge=0, lt=1)


class Params(Section):
    filter: Filter


def load_clip(name: str, revision: str | None) -> tuple[CLIPModel, CLIPProcessor]:
    """CLIP from a folder or, at a pinned revision, from the hub."""
    where = {"local_files_only": True} if Path(name).is_dir() else {"revision": revision}
    try:
        model = CLIPModel.from_pretrained(name, use_safetensors=True, dtype=precision(), **where)
        processor = CLIPProcessor.from_pretrained(name, **where)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(
            f"params.yaml: filter.clip: {name!r} cannot be loaded ({reason}); name a folder or hub id"
        ) from None
    return model.to(device()).eval(), processor


def captions(metaclass: str) -> list[str]:
    """The positive and the negative caption."""
    return [f"a photo with a {metaclass} on it", f"a photo without a {metaclass} on it"]


@torch.inference_mode()
def confidence(table: Table, metaclass: str, model: CLIPModel, processor: CLIPProcessor) -> np.ndarray:
    """The positive caption's share of the softmax over both, for each image, float (n,)."""
    scores = []
    for first in tqdm(range(0, len(table), batch_size()), desc="filter"):
        images = [table.image(row) for row in range(first, min(first + batch_size(), len(table)))]
        inputs = processor(text=captions(metaclass), images=images, return_tensors="pt", padding=True).to(device())
        inputs["pixel_values"] = inputs["pixel_values"].to(model.dtype)
        scores.append(model(**inputs).logits_per_image.float().softmax(dim=1)[:, 0].cpu())
    return torch.cat(scores).numpy()


def split(rows: pd.DataFrame, drop: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The kept rows, in table order, and the dropped ones, lowest first: the drop * n lowest, rounded down."""
    ranked = rows.sort_values(["score", "key"])
    dropped = ranked.iloc[: int(drop * len(rows) + 1e-9)]  # 0.29 * 100 is 28.999…
    return rows.drop(dropped.index), dropped


def main() -> None:
    params = load(Params).filter
    table = Table(IMAGES)
    metaclass = read_classes(CLASSES)["metaclass"].iloc[0]
    seed_everything(0)
    scores = confidence(table, metaclass, *load_clip(params.clip, params.revision))
    kept, dropped = split(table.rows.assign(score=scores.astype(float).round(6)), params.drop)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    write_manifest(OUTPUT, kept)
    write_manifest(OUTPUT, dropped, "dropped.csv")
    summary = {
        "kept": len(kept), "dropped": len(dropped), "score_mean": round(float(scores.mean()), 4),
        "threshold": round(float(kept["score"].min()), 4),
    }  # fmt: skip
    METRICS.parent.mkdir(exist_ok=True)
    METRICS.write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

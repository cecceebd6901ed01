"""Leave out the synthetic images in which CLIP sees least of what they should show.

Reads:  data/synthesize/, data/download/classes.csv, data/method/filter.json
Writes: data/filter/{manifest,dropped}.csv (with scores), metrics/filter.json
Paper:  Sec. 3.4, supplement 7.1
"""

import numpy as np
import pandas as pd
import torch

from stages.shared.files import write_csv, write_json
from stages.shared.manifests import read_classes
from stages.shared.methods import Criterion, read_filter
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FILTER, METRICS, SYNTHESIZE
from stages.shared.pretrained.clip import image_features, load_clip, logits, text_features
from stages.shared.prompts import class_prompts
from stages.shared.running.inputs import run
from stages.shared.running.processes import launch, processes
from stages.shared.running.runtime import seed_everything
from stages.shared.schemas.filter import Params
from stages.shared.tables import Table


def captions(criterion: Criterion, classes: pd.DataFrame) -> list[str]:
    """The captions that CLIP chooses between.

    They are one with and one without the metaclass (supplement 7.1), or the classes by name (He et
    al., 2023).
    """
    if criterion == "class":
        return class_prompts(classes, "none")
    metaclass = classes["metaclass"].iloc[0]
    return [f"a photo with a {metaclass} on it", f"a photo without a {metaclass} on it"]


def confidence(scores: torch.Tensor, criterion: Criterion, targets: pd.Series) -> np.ndarray:
    """The softmax share, among all captions, of the one that an image should fit: float (n,)."""
    if criterion == "class":
        wanted = torch.tensor(targets.to_numpy())
    else:
        wanted = torch.zeros(len(targets), dtype=torch.long)
    # in double precision, so that very sure answers are still told apart
    return scores.double().softmax(dim=1).gather(1, wanted[:, None])[:, 0].numpy()


def split(rows: pd.DataFrame, drop: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The kept rows, in table order, and the dropped ones, lowest score first.

    The drop * n lowest are dropped, rounded down; equal scores by key.
    """
    dropped = rows.sort_values(["score", "key"]).iloc[: count_dropped(len(rows), drop)]
    return rows.drop(dropped.index), dropped


def count_dropped(images: int, drop: float) -> int:
    """How many of the images are dropped: the share `drop` of them, rounded down."""
    return int(drop * images + 1e-9)  # 0.29 * 100 is 28.999…


def write(rows: pd.DataFrame, scores: np.ndarray, drop: float) -> None:
    """Write the kept and the dropped rows with their scores, and how many there are."""
    kept, dropped = split(rows.assign(score=scores.round(9)), drop)
    write_csv(FILTER / "manifest.csv", kept)
    write_csv(FILTER / "dropped.csv", dropped)

    summary = {
        "kept": len(kept),
        "dropped": len(dropped),
        "score_mean": round(float(scores.mean()), 4),
        "threshold": round(float(kept["score"].min()), 4),
    }
    write_json(METRICS / "filter.json", summary)


def main() -> None:
    params = load(Params)
    table = Table(SYNTHESIZE)
    classes = read_classes(DOWNLOAD)
    criterion, drop = read_filter()

    launch()
    seed_everything(0)
    model, processor = load_clip(params.clip)

    texts = text_features(captions(criterion, classes), model, processor)
    images = image_features(table, model, processor)
    scores = confidence(logits(images, texts, model), criterion, table.rows["target_label"])

    if processes().is_main_process:
        write(table.rows, scores, drop)


if __name__ == "__main__":
    run(main)

"""Measure the synthetic images: faithful to their class, true to the background, diverse, lifelike.

Reads:  data/synthesize/, data/filter/, data/subsample/, data/download/{train,masks,classes.csv};
        for Toybirds, the judge in data/base/
Writes: data/assess/images.csv (one row an image), metrics/assess.json, metrics/assess.csv
Paper:  Table 5 (its FID is the Fréchet distance here)

Faithfulness and background are measured on all images, so that those that the filter dropped can
be compared with those that it kept. Diversity and Fréchet distance are measured on the kept images
alone, since these train the classifier, and are set beside the chosen real images.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from stages.shared.errors import BadInput
from stages.shared.files import write_csv, write_json
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.measuring.fidelity import background_error, diversity, frechet_distance
from stages.shared.measuring.inception import inception_features, load_inception
from stages.shared.measuring.judge import load_judge, recognised
from stages.shared.params import load
from stages.shared.paths import ASSESS, DOWNLOAD, FILTER, JUDGE, METRICS, SUBSAMPLE, SYNTHESIZE
from stages.shared.pretrained.clip import image_features, load_clip, text_features
from stages.shared.prompts import class_prompts
from stages.shared.running.inputs import run
from stages.shared.running.runtime import BATCH, seed_everything
from stages.shared.schemas.assess import Features, Params
from stages.shared.tables import Table

STREAM = 2  # keeps these draws apart from those that synthesize makes with an image's seed
FEWEST = 50  # images on each side of a Fréchet distance: of fewer, it measures how few they are
IMAGE_COLUMNS = [
    "key", "target_label", "strength", "kept", "score",
    "faithful", "background_error", "background_kept",
]  # fmt: skip
LINE_COLUMNS = ["strength", "images", "faithfulness", "background_kept", "diversity", "frechet"]
NAMED = "clip similarity to the class's name"
NAN = float("nan")
LoadedClip = tuple[CLIPModel, CLIPProcessor]


class Images(NamedTuple):
    """Rows of images with their features: CLIP's unit vectors and the Fréchet distance's."""

    rows: pd.DataFrame
    clip: np.ndarray  # (n, width)
    frechet: np.ndarray  # (n, width)


def read_images() -> Table:
    """All synthetic images, with the filter's `score` and `kept` (1 or 0).

    Raises BadInput where there is no image, or the filter does not list the same images.
    """
    rows = read_manifest(SYNTHESIZE, ["source_key", "target_label", "strength", "seed"])
    kept = read_manifest(FILTER, ["score"])
    dropped = read_manifest(FILTER, ["score"], "dropped.csv")

    keys = [*kept["key"], *dropped["key"]]
    scores = dict(zip(keys, [*kept["score"], *dropped["score"]], strict=True))

    if rows.empty:
        raise BadInput(
            f"{SYNTHESIZE}/manifest.csv: there is no synthetic image; raise synth.multiplier"
        )
    if set(scores) != set(rows["key"]):
        raise BadInput(
            f"{FILTER}: does not list the images of {SYNTHESIZE}; run `dvc repro -f filter`"
        )

    rows["kept"] = rows["key"].isin(kept["key"]).astype(int)
    rows["score"] = rows["key"].map(scores)
    return Table(SYNTHESIZE, rows)


def judge_images(table: Table) -> np.ndarray:
    """1 where the judge recognises the image as its target class, else 0: int (n,)."""
    judge = load_judge(JUDGE)
    labels = []
    for first in range(0, len(table), BATCH):
        batch = range(first, min(first + BATCH, len(table)))
        labels.append(recognised(judge, np.stack([np.asarray(table.image(row)) for row in batch])))

    return (np.concatenate(labels) == table.rows["target_label"]).to_numpy().astype(int)


def draw_other(own: str, references: list[str], seed: int) -> str | None:
    """Another of the references, drawn with the image's own seed; None where there is none."""
    others = [key for key in references if key != own]
    if not others:
        return None
    return others[np.random.default_rng((seed, STREAM)).integers(len(others))]


def compare_backgrounds(table: Table, sources: Table, masks: Table) -> pd.DataFrame:
    """Each image's background_error and background_kept, measured at the image's own size.

    The error compares the image with its own reference. The background is kept (1.0) where that
    error is smaller than the one against another reference, drawn at random, else lost (0.0).
    Both are NaN without a reference or its mask, and background_kept without another reference.
    """
    source_rows = {key: row for row, key in enumerate(sources.rows["key"])}
    mask_rows = {key: row for row, key in enumerate(masks.rows["key"])}
    references = sorted(set(table.rows["source_key"]) & set(source_rows))

    measured = []
    keys_and_seeds = zip(table.rows["source_key"], table.rows["seed"], strict=True)
    for row, (own, seed) in enumerate(keys_and_seeds):
        if own not in mask_rows:  # generated from noise, or a dataset without masks
            measured.append((NAN, NAN))
            continue

        image = table.image(row)
        mask = resize(masks.image(mask_rows[own]), image.size, Image.Resampling.BOX)[..., 0] > 127
        other = draw_other(own, references, seed)

        error = error_against(sources.image(source_rows[own]), image, mask)
        chance = error_against(sources.image(source_rows[other]), image, mask) if other else NAN
        kept = NAN if np.isnan([error, chance]).any() else float(error < chance)
        measured.append((error, kept))

    return pd.DataFrame(measured, columns=["background_error", "background_kept"])


def error_against(reference: Image.Image, image: Image.Image, mask: np.ndarray) -> float:
    """The background error of the image against a reference, which is resized to the image's size.

    mask: the foreground, which is left out, bool (height, width) of the image.
    """
    return background_error(np.asarray(image), resize(reference, image.size), mask)


def resize(
    image: Image.Image, size: tuple[int, int], filtering=Image.Resampling.LANCZOS
) -> np.ndarray:
    """The image squeezed to `size` (width, height), as synthesize squeezes its references.

    Returns uint8 (height, width, 3).
    """
    return np.asarray(image.resize(size, filtering))


def extract_features(tables: list[Table], clip: LoadedClip, frechet: Features) -> list[Images]:
    """The tables with their vectors; Inception sees all images at the size of the first table's."""
    clip_vectors = [image_features(table, *clip).numpy() for table in tables]
    frechet_vectors = clip_vectors
    if frechet == "inception":
        network = load_inception()
        size = tables[0].image(0).size
        frechet_vectors = [inception_features(table, network, size) for table in tables]

    rows = [table.rows for table in tables]
    return [Images(*parts) for parts in zip(rows, clip_vectors, frechet_vectors, strict=True)]


def compare_with_names(made: Images, classes: pd.DataFrame, clip: LoadedClip) -> np.ndarray:
    """CLIP's cosine between each image and "a photo of a [name] [metaclass]" of its target.

    Returns float (n,).
    """
    texts = text_features(class_prompts(classes, "none"), *clip).numpy()
    return (made.clip * texts[made.rows["target_label"]]).sum(axis=1).astype(float)


def mean_faithful(rows: pd.DataFrame, judged: bool) -> float:
    """Percent recognised by the judge, or the mean similarity."""
    return round_faithful(rows["faithful"].mean(), judged)


def round_faithful(value: float, judged: bool) -> float:
    return round(100 * value, 2) if judged else round(value, 4)


def filter_gain(rows: pd.DataFrame, judged: bool) -> float:
    """How much more faithful the kept images are than the dropped ones of their strength.

    The mean over the dropped images; NaN where no dropped image has a kept one of its strength.
    """
    kept = rows[rows["kept"] == 1].groupby("strength")["faithful"].mean()
    dropped = rows[rows["kept"] == 0]
    return round_faithful((dropped["strength"].map(kept) - dropped["faithful"]).mean(), judged)


def measure_part(part: np.ndarray, made: Images, real: Images, judged: bool) -> dict[str, Any]:
    """The measures of the synthetic images in `part`, bool (n,), rounded as they are published.

    A measure that cannot be taken is NaN.
    """
    rows = made.rows[part]
    kept = part & (made.rows["kept"] == 1).to_numpy()
    kept_labels = made.rows.loc[kept, "target_label"].to_numpy()

    frechet = NAN
    if min(kept.sum(), len(real.rows)) >= FEWEST:
        frechet = round(frechet_distance(made.frechet[kept], real.frechet), 4)

    return {
        "images": len(rows),
        "faithfulness": mean_faithful(rows, judged),
        "background_kept": round(100 * rows["background_kept"].mean(), 2),
        "background_error": round(rows["background_error"].mean(), 2),
        "diversity": round(diversity(made.clip[kept], kept_labels), 4),
        "frechet": frechet,
    }


def measure_parts(made: Images, real: Images, judged: bool) -> pd.DataFrame:
    """One row of measures for each strength, ascending, and last, named "all", for all images."""
    strengths = made.rows["strength"].to_numpy()
    parts = {str(strength): strengths == strength for strength in np.unique(strengths)}
    parts["all"] = np.full(len(strengths), True)

    measured = {name: measure_part(part, made, real, judged) for name, part in parts.items()}
    return pd.DataFrame(measured).T


def nest_by_strength(measured: pd.Series) -> dict[str, Any]:
    """{"all": x, "strength": {"0.5": x, …}}, without what could not be measured."""
    values = measured.dropna().to_dict()

    nested: dict[str, Any] = {}
    if "all" in values:
        nested["all"] = values.pop("all")
    if values:
        nested["strength"] = values
    return nested


def summarise(
    lines: pd.DataFrame, made: Images, real: Images, frechet: Features, judged: bool
) -> dict[str, Any]:
    """The content of metrics/assess.json; measures that could not be taken are absent."""
    faithfulness = nest_by_strength(lines["faithfulness"])
    for name, kept in (("kept", 1), ("dropped", 0)):
        rows = made.rows[made.rows["kept"] == kept]
        if len(rows):
            faithfulness[name] = mean_faithful(rows, judged)
    gain = filter_gain(made.rows, judged)
    if not np.isnan(gain):
        faithfulness["filter_gain"] = gain

    backgrounds = {
        name: nest_by_strength(lines[f"background_{name}"]) for name in ("kept", "error")
    }
    diversities = nest_by_strength(lines["diversity"])
    real_diversity = round(diversity(real.clip, real.rows["label"].to_numpy()), 4)
    if not np.isnan(real_diversity):
        diversities["train"] = real_diversity

    summary = {
        "faithfulness": add_measure("judge" if judged else NAMED, faithfulness),
        "background": {name: values for name, values in backgrounds.items() if values},
        "diversity": add_measure("clip", diversities),
        "frechet": add_measure(frechet, nest_by_strength(lines["frechet"])),
    }
    return {"images": len(made.rows)} | {name: values for name, values in summary.items() if values}


def add_measure(measure: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values with the name of what measured them; nothing where there is no value."""
    return {"measure": measure, **values} if values else {}


def headline(summary: dict[str, Any]) -> dict[str, float]:
    """The numbers of all images that `dvc metrics show` lists; the rest is in assess.json."""
    faithfulness = summary.get("faithfulness", {})
    measures = {
        "faithfulness": faithfulness.get("all"),
        "filter_gain": faithfulness.get("filter_gain"),
        "background_kept": summary.get("background", {}).get("kept", {}).get("all"),
        "diversity": summary.get("diversity", {}).get("all"),
        "frechet": summary.get("frechet", {}).get("all"),
    }
    return {name: value for name, value in measures.items() if value is not None}


def write(rows: pd.DataFrame, lines: pd.DataFrame, summary: dict[str, Any]) -> None:
    """Write a row an image, a line a strength for the plots, and the summary."""
    images = rows[IMAGE_COLUMNS].round({"faithful": 4, "background_error": 2})
    write_csv(ASSESS / "images.csv", images.astype({"background_kept": "Int64"}))

    table = lines.astype({"images": int}).rename_axis("strength").reset_index()[LINE_COLUMNS]
    write_csv(METRICS / "assess.csv", table)

    write_json(METRICS / "assess.json", summary)
    write_json(METRICS / "fidelity.json", headline(summary))


def main() -> None:
    params = load(Params)
    classes = read_classes(DOWNLOAD)
    table = read_images()
    sources = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    masks = Table(DOWNLOAD / "masks")
    judged = params.data.name == "toybirds"
    frechet = params.assess.frechet

    seed_everything(0)
    clip = load_clip(params.clip)
    made, real = extract_features([table, sources], clip, frechet)

    faithful = judge_images(table) if judged else compare_with_names(made, classes, clip)
    backgrounds = compare_backgrounds(table, sources, masks)
    rows = pd.concat([table.rows.assign(faithful=faithful), backgrounds], axis=1)
    made = made._replace(rows=rows)
    lines = measure_parts(made, real, judged)
    summary = summarise(lines, made, real, frechet, judged)

    write(rows, lines, summary)


if __name__ == "__main__":
    run(main)

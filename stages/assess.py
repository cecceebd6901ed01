"""Features the synthetic images: faithful to their class, true to the reference's background, diverse, like real ones.

Reads data/synthesize/, data/filter/, data/subsample/, data/download/{train,masks,classes.csv} and, for Toybirds, the
judge in data/base/. Writes data/assess/images.csv, a row an image, metrics/assess.json and metrics/assess.csv.
Faithfulness and background are those of all images, so that what the filter dropped can be compared; diversity and
Fréchet distance (Table 5's FID) those of the kept ones, which train the classifier, beside the chosen real images.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from stages.shared.errors import BadInput
from stages.shared.files import write_csv, write_json
from stages.shared.measuring.fidelity import background_error, diversity, frechet_distance
from stages.shared.measuring.inception import inception_features, load_inception
from stages.shared.measuring.judge import load_judge, recognised
from stages.shared.params import load
from stages.shared.paths import ASSESS, DOWNLOAD, FILTER, JUDGE, METRICS, SUBSAMPLE, SYNTHESIZE
from stages.shared.pretrained.clip import image_features, load_clip, text_features
from stages.shared.prompts import class_prompts
from stages.shared.running.runtime import BATCH, seed_everything
from stages.shared.schemas.assess import Features, Params
from stages.shared.tables import Table, read_classes, read_manifest

STREAM = 2  # apart from what synthesize draws with an image's seed
FEWEST = 50  # images on each side of a Fréchet distance: of fewer, it measures how few they are
IMAGE_COLUMNS = [
    "key", "target_label", "strength", "kept", "score", "faithful", "background_error", "background_kept",
]  # fmt: skip
LINE_COLUMNS = ["strength", "images", "faithfulness", "background_kept", "diversity", "frechet"]
NAMED = "clip similarity to the class's name"
NAN = float("nan")
LoadedClip = tuple[CLIPModel, CLIPProcessor]


class Images(NamedTuple):
    """Rows of images, and what networks see in them: unit vectors of CLIP, and those of the Fréchet distance."""

    rows: pd.DataFrame
    clip: np.ndarray  # (n, width)
    frechet: np.ndarray  # (n, width)


def read_images() -> Table:
    """All synthetic images, with the filter's `score` and `kept` (1 or 0); raises BadInput where the two disagree."""
    rows = read_manifest(SYNTHESIZE, ["source_key", "target_label", "strength", "seed"])
    kept, dropped = (
        read_manifest(FILTER, ["score"], name) for name in ("manifest.csv", "dropped.csv")
    )
    scores = dict(
        zip([*kept["key"], *dropped["key"]], [*kept["score"], *dropped["score"]], strict=True)
    )
    if rows.empty:
        raise BadInput(
            f"{SYNTHESIZE}/manifest.csv: there is no synthetic image; raise synth.multiplier"
        )
    if set(scores) != set(rows["key"]):
        raise BadInput(
            f"{FILTER}: does not list the images of {SYNTHESIZE}; run `dvc repro -f filter`"
        )
    rows["kept"], rows["score"] = rows["key"].isin(kept["key"]).astype(int), rows["key"].map(scores)
    return Table(SYNTHESIZE, rows)


def judge_images(table: Table) -> np.ndarray:
    """1 where the judge sees the target in the image, else 0, int (n,)."""
    judge, seen = load_judge(JUDGE), []
    for first in range(0, len(table), BATCH):
        rows = range(first, min(first + BATCH, len(table)))
        seen.append(recognised(judge, np.stack([np.asarray(table.image(row)) for row in rows])))
    return (np.concatenate(seen) == table.rows["target_label"]).to_numpy().astype(int)


def draw_other(own: str, references: list[str], seed: int) -> str | None:
    """Another of the references, drawn with the image's own seed; None where there is none."""
    others = [key for key in references if key != own]
    return others[np.random.default_rng((seed, STREAM)).integers(len(others))] if others else None


def compare_backgrounds(table: Table, sources: Table, masks: Table) -> pd.DataFrame:
    """Each image's background_error and background_kept, at its own size; NaN without a reference or its mask."""
    places = {key: row for row, key in enumerate(sources.rows["key"])}
    foregrounds = {key: row for row, key in enumerate(masks.rows["key"])}
    references = sorted(set(table.rows["source_key"]) & set(places))
    measured = []
    for row, (own, seed) in enumerate(
        zip(table.rows["source_key"], table.rows["seed"], strict=True)
    ):
        if own not in foregrounds:  # generated from noise, or a dataset without masks
            measured.append((NAN, NAN))
            continue
        image, other = table.image(row), draw_other(own, references, seed)
        mask = fit(masks.image(foregrounds[own]), image.size, Image.Resampling.BOX)[..., 0] > 127
        errors = [
            background_error(np.asarray(image), fit(sources.image(places[key]), image.size), mask)
            if key
            else NAN
            for key in (own, other)
        ]
        measured.append(
            (errors[0], NAN if np.isnan(errors).any() else float(errors[0] < errors[1]))
        )
    return pd.DataFrame(measured, columns=["background_error", "background_kept"])


def fit(
    image: Image.Image, size: tuple[int, int], filtering=Image.Resampling.LANCZOS
) -> np.ndarray:
    """Squeezed to `size` (width, height), as synthesize does with its references: uint8 (height, width, 3)."""
    return np.asarray(image.resize(size, filtering))


def describe(tables: list[Table], clip: LoadedClip, frechet: Features) -> list[Images]:
    """The tables with their vectors; Inception sees all images at the size of the first table's."""
    vectors = [image_features(table, *clip).numpy() for table in tables]
    compared = vectors
    if frechet == "inception":
        network, size = load_inception(), tables[0].image(0).size
        compared = [inception_features(table, network, size) for table in tables]
    return [
        Images(table.rows, *pair) for table, *pair in zip(tables, vectors, compared, strict=True)
    ]


def name_images(made: Images, classes: pd.DataFrame, clip: LoadedClip) -> np.ndarray:
    """CLIP's cosine between each image and "a photo of a [name] [metaclass]" of its target, float (n,)."""
    texts = text_features(class_prompts(classes, "none"), *clip).numpy()
    return (made.clip * texts[made.rows["target_label"]]).sum(axis=1).astype(float)


def mean_faithful(rows: pd.DataFrame, judged: bool) -> float:
    """Percent recognised by the judge, or the mean similarity."""
    return round(100 * rows["faithful"].mean(), 2) if judged else round(rows["faithful"].mean(), 4)


def measure(part: np.ndarray, made: Images, real: Images, judged: bool) -> dict[str, Any]:
    """The measures of the synthetic images in `part`, bool (n,), as they are published; NaN where one cannot be."""
    rows, kept = made.rows[part], part & (made.rows["kept"] == 1).to_numpy()
    enough = min(kept.sum(), len(real.rows)) >= FEWEST
    return {
        "images": len(rows),
        "faithfulness": mean_faithful(rows, judged),
        "background_kept": round(100 * rows["background_kept"].mean(), 2),
        "background_error": round(rows["background_error"].mean(), 2),
        "diversity": round(
            diversity(made.clip[kept], made.rows.loc[kept, "target_label"].to_numpy()), 4
        ),
        "frechet": round(frechet_distance(made.frechet[kept], real.frechet), 4) if enough else NAN,
    }


def measure_all(made: Images, real: Images, judged: bool) -> pd.DataFrame:
    """`measure` by strength, ascending, and at last of all images: one row each, under its name."""
    strengths = made.rows["strength"].to_numpy()
    parts = {str(strength): strengths == strength for strength in np.unique(strengths)}
    parts["all"] = np.full(len(strengths), True)
    return pd.DataFrame({name: measure(part, made, real, judged) for name, part in parts.items()}).T


def nest(measured: pd.Series) -> dict[str, Any]:
    """{"all": x, "strength": {"0.5": x, …}}, without what could not be measured."""
    values = measured.dropna().to_dict()
    whole = {"all": values.pop("all")} if "all" in values else {}
    return whole | ({"strength": values} if values else {})


def summarise(
    lines: pd.DataFrame, made: Images, real: Images, frechet: Features, judged: bool
) -> dict[str, Any]:
    """What metrics/assess.json holds; measures that could not be taken are absent."""
    filtered = {
        name: made.rows[made.rows["kept"] == kept] for name, kept in (("kept", 1), ("dropped", 0))
    }
    faithfulness = {
        name: mean_faithful(rows, judged) for name, rows in filtered.items() if len(rows)
    }
    train = round(diversity(real.clip, real.rows["label"].to_numpy()), 4)
    background = {name: nest(lines[f"background_{name}"]) for name in ("kept", "error")}
    summary = {
        "faithfulness": labelled(
            "judge" if judged else NAMED, nest(lines["faithfulness"]) | faithfulness
        ),
        "background": {name: values for name, values in background.items() if values},
        "diversity": labelled(
            "clip", nest(lines["diversity"]) | ({} if np.isnan(train) else {"train": train})
        ),
        "frechet": labelled(frechet, nest(lines["frechet"])),
    }
    return {"images": len(made.rows)} | {name: values for name, values in summary.items() if values}


def labelled(measure: str, values: dict[str, Any]) -> dict[str, Any]:
    return {"measure": measure, **values} if values else {}


def write(rows: pd.DataFrame, lines: pd.DataFrame, summary: dict[str, Any]) -> None:
    images = (
        rows[IMAGE_COLUMNS]
        .round({"faithful": 4, "background_error": 2})
        .astype({"background_kept": "Int64"})
    )
    write_csv(ASSESS / "images.csv", images)
    table = lines.astype({"images": int}).rename_axis("strength").reset_index()[LINE_COLUMNS]
    write_csv(METRICS / "assess.csv", table)
    write_json(METRICS / "assess.json", summary)


def main() -> None:
    params, classes, table = load(Params), read_classes(DOWNLOAD), read_images()
    sources, judged = (
        Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE)),
        params.data.name == "toybirds",
    )
    seed_everything(0)
    clip = load_clip(params.clip)
    made, real = describe([table, sources], clip, params.assess.frechet)
    faithful = judge_images(table) if judged else name_images(made, classes, clip)
    backgrounds = compare_backgrounds(table, sources, Table(DOWNLOAD / "masks"))
    made = made._replace(
        rows=pd.concat([table.rows.assign(faithful=faithful), backgrounds], axis=1)
    )
    lines = measure_all(made, real, judged)
    write(made.rows, lines, summarise(lines, made, real, params.assess.frechet, judged))


if __name__ == "__main__":
    main()

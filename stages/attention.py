"""Show where the fine-tuned model looks while it translates: cross-attention maps of each word.

Reads:  data/plan/plan.csv, data/subsample/, data/finetune/, data/method/finetune.json;
        data/download/{train,masks,classes.csv}
Writes: metrics/attention.png, metrics/attention.json
Paper:  Fig. 9, supplement 7.2

It is also a tool that draws any training image and any class:

    python -m stages.attention REFERENCE_KEY TARGET_CLASS OUT.png [STRENGTH]
"""

from argparse import ArgumentParser, Namespace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from stages.shared.diffusion.attention_maps import (
    WORDS,
    class_prompt_weights,
    enlarge,
    record_attention,
)
from stages.shared.diffusion.translation import (
    References,
    buckets,
    load_translator,
    read_plan,
    to_images,
    translate_rows,
)
from stages.shared.errors import BadInput
from stages.shared.figures.mosaics import Cell, mosaic
from stages.shared.files import write_json
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import Strategy, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, METRICS, PLAN, SUBSAMPLE
from stages.shared.running.inputs import run
from stages.shared.running.runtime import seed_everything
from stages.shared.schemas.attention import Params
from stages.shared.tables import Table

# the headings of the maps stand in the order of WORDS
HEADINGS = ("reference", "translation", "identifier", "metaclass", "end of text")
SHOWN = 4  # rows of the sheet
HEAT = 0.65  # opacity of a map over its reference


class Example(NamedTuple):
    """A translation, and where the model looked for each of WORDS while it was made."""

    row: Any  # the plan's, as a named tuple
    reference: Image.Image
    translation: Image.Image
    maps: np.ndarray  # float32 (len(WORDS), resolution, resolution)

    # the reference's foreground, bool (resolution, resolution), where it is known
    mask: np.ndarray | None


def spread(count: int, length: int) -> np.ndarray:
    """Up to `count` indices of a list, spread evenly over its length."""
    count = min(count, length)
    return np.arange(count) * length // max(count, 1)


def choose_rows(plan: pd.DataFrame, count: int) -> pd.DataFrame:
    """Up to `count` rows of the plan that have a reference, spread evenly over all of these."""
    rows = plan[plan["source_key"] != ""]
    return rows.iloc[spread(count, len(rows))]


def read_masks(keys: pd.Series, resolution: int) -> dict[str, np.ndarray]:
    """The foregrounds of these images, bool (resolution, resolution), by key.

    Images whose foreground is unknown, empty or the whole image are left out.
    """
    rows = read_manifest(DOWNLOAD / "masks")
    table = Table(DOWNLOAD / "masks", rows[rows["key"].isin(keys)])

    masks = {}
    for row, key in enumerate(table.rows["key"]):
        image = table.image(row).convert("L")
        image = image.resize((resolution, resolution), Image.Resampling.NEAREST)
        masks[key] = np.asarray(image) > 127

    return {key: mask for key, mask in masks.items() if 0 < mask.mean() < 1}


def make_examples(
    rows: pd.DataFrame, classes: pd.DataFrame, strategy: Strategy, params: Params
) -> list[Example]:
    """Translate the rows as `synthesize` does and record the attention; in the rows' order."""
    resolution = params.synth.resolution
    pipeline, text = load_translator(params.base, classes, strategy, params.synth)
    weights = class_prompt_weights(pipeline.tokenizer, classes, strategy)
    references = References(pipeline, Table(DOWNLOAD / "train"), params.synth)
    masks = read_masks(rows["source_key"], resolution)

    examples: dict[Any, Example] = {}
    for batch in buckets(rows, params.synth.batch):
        word_weights = weights[batch["target_label"].tolist()]
        with record_attention(pipeline, word_weights, resolution) as record:
            start = references.start(batch)
            made = translate_rows(pipeline, text, batch, params.synth, start)
            translations = to_images(made)()

        maps = enlarge(record.maps(), resolution).numpy()
        originals = references.images(batch["source_key"])

        parts = zip(batch.itertuples(), originals, translations, maps, strict=True)
        for row, original, translation, scores in parts:
            mask = masks.get(str(row.source_key))
            examples[row.key] = Example(row, original, translation, scores, mask)

    return [examples[key] for key in rows["key"]]


def ranking(scores: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve in percent: how often a foreground pixel outranks a background one.

    Ties count half.
    """
    ranks = pd.Series(scores.ravel()).rank().to_numpy()[mask.ravel()]
    inside = mask.sum()
    outside = (~mask).sum()
    return 100 * float((ranks.sum() - inside * (inside + 1) / 2) / (inside * outside))


def overlap(scores: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union, in percent, of the mask and the map's highest pixels.

    As many of the highest pixels are taken as the mask has.
    """
    highest = np.zeros(scores.size, bool)
    highest[np.argsort(-scores.ravel(), kind="stable")[: mask.sum()]] = True
    return 100 * float((highest & mask.ravel()).sum() / (highest | mask.ravel()).sum())


def index_of_other(index: int, keys: list[str]) -> int | None:
    """The index of another image than that at `index`; None where all keys are the same.

    It is the one half the list away, or the next after it that is not the same image again.
    """
    half = len(keys) // 2
    candidates = [(index + half + step) % len(keys) for step in range(len(keys))]
    return next((candidate for candidate in candidates if keys[candidate] != keys[index]), None)


def mean_scores(pairs: list[tuple[np.ndarray, Any]], suffix: str = "") -> dict[str, float]:
    """The means of both scores over pairs of a map and a mask; empty without a pair."""
    if not pairs:
        return {}

    values = {
        "auc": [ranking(scores, mask) for scores, mask in pairs],
        "overlap": [overlap(scores, mask) for scores, mask in pairs],
    }
    return {name + suffix: round(float(np.mean(each)), 2) for name, each in values.items()}


def measure_maps(examples: list[Example]) -> dict[str, Any]:
    """How well each word's map finds its reference's foreground and, for chance, another's.

    That chance is far from 50 percent where objects stand in the middle. Without a known mask there
    are no such measures.
    """
    result: dict[str, Any] = {"images": len(examples)}
    if examples:
        strengths = [example.row.strength for example in examples]
        result["strength"] = round(float(np.mean(strengths)), 2)

    known = [example for example in examples if example.mask is not None]
    keys = [example.row.source_key for example in known]
    others = [index_of_other(index, keys) for index in range(len(known))]

    for number, word in enumerate(WORDS if known else ()):
        maps = [example.maps[number] for example in known]
        own = [(scores, example.mask) for scores, example in zip(maps, known, strict=True)]
        crossed = [
            (scores, known[other].mask)
            for scores, other in zip(maps, others, strict=True)
            if other is not None
        ]
        result[word] = mean_scores(own) | mean_scores(crossed, "_chance")

    return result


def overlay(reference: Image.Image, scores: np.ndarray) -> Image.Image:
    """The map over its image in grey, from its lowest value (dark) to its highest (bright)."""
    scaled = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    colours = (255 * matplotlib.colormaps["inferno"](scaled)[..., :3]).round().astype(np.uint8)
    return Image.blend(reference.convert("L").convert("RGB"), Image.fromarray(colours), HEAT)


def draw_row(example: Example, names: list[str], words: tuple[str, ...]) -> list[Cell | None]:
    """A row of the sheet; each map with what it attends for and, where known, its ranking."""
    row = example.row
    captions = (f"→ {names[row.target_label]}", f"s = {row.strength:g}")
    cells: list[Cell | None] = [
        Cell(example.reference, (names[row.source_label],)),
        Cell(example.translation, captions),
    ]

    for word, scores in zip(words, example.maps, strict=True):
        lines = [word]
        if example.mask is not None:
            lines.append(f"AUC {ranking(scores, example.mask):.0f} %")
        cells.append(Cell(overlay(example.reference, scores), tuple(lines)))

    return cells


def draw_sheet(examples: list[Example], classes: pd.DataFrame) -> Image.Image:
    """A sheet with a row for each of up to SHOWN examples."""
    names = list(classes["name"])

    rows = []
    for index in spread(SHOWN, len(examples)):
        example = examples[index]
        target = example.row.target_label
        words = (names[target], classes["metaclass"].iloc[target], "<eot>")
        rows.append(draw_row(example, names, words))
    return mosaic(HEADINGS, rows)


def plan_pair(arguments: Namespace, classes: pd.DataFrame) -> pd.DataFrame:
    """The tool's arguments as a plan of one row.

    Raises BadInput for what cannot be drawn or written.
    """
    labels = read_manifest(DOWNLOAD / "train").set_index("key")["label"]
    names = list(classes["name"])
    check_arguments(arguments, list(labels.index), names)

    key = arguments.reference
    row = {
        "key": key,
        "source_key": key,
        "source_label": labels[key],
        "target_label": names.index(arguments.target),
        "strength": arguments.strength,
        "seed": 0,
    }
    return pd.DataFrame([row])


def check_arguments(arguments: Namespace, keys: list[str], names: list[str]) -> None:
    """Raises BadInput for a key, class, strength or output that cannot be drawn or written."""
    key = arguments.reference
    if key not in keys:
        raise BadInput(
            f"{key}: is no key of {DOWNLOAD}/train/manifest.csv; "
            f"take one from there, like {keys[0]}"
        )

    target = arguments.target
    if target not in names:
        close = [*get_close_matches(target, names, n=1), names[0]]
        raise BadInput(
            f"{target}: is no class of {DOWNLOAD}/classes.csv; "
            f"take one from there, like {close[0]!r}"
        )

    if not 0 < arguments.strength <= 1:
        raise BadInput(f"STRENGTH: {arguments.strength:g} is not in (0, 1]; take 0.7, say")

    output = arguments.output
    if output.suffix != ".png" or not output.parent.is_dir():
        raise BadInput(f"{output}: is no .png in a folder that exists; name another")


def read_arguments() -> Namespace:
    """The command line: no argument for the stage, or at least three for the tool."""
    parser = ArgumentParser(
        description="Draw the cross-attention of the plan's translations (the stage), or of one."
    )
    parser.add_argument(
        "reference", nargs="?", metavar="REFERENCE_KEY", help="key of a training image"
    )
    parser.add_argument("target", nargs="?", metavar="TARGET_CLASS", help="name of a class")
    parser.add_argument("output", nargs="?", type=Path, metavar="OUT.png", help="where to draw")
    parser.add_argument(
        "strength", nargs="?", type=float, metavar="STRENGTH", default=0.7, help="default: 0.7"
    )

    arguments = parser.parse_args()
    if arguments.reference and not arguments.output:
        parser.error("name all of REFERENCE_KEY, TARGET_CLASS and OUT.png, or none for the stage")
    return arguments


def main() -> None:
    arguments = read_arguments()
    params = load(Params)
    classes = read_classes(DOWNLOAD)
    strategy = read_strategy()

    seed_everything(0)
    if arguments.reference:
        rows = plan_pair(arguments, classes)
        examples = make_examples(rows, classes, strategy, params)
        draw_sheet(examples, classes).save(arguments.output)
        return

    plan = read_plan(PLAN / "plan.csv", read_manifest(SUBSAMPLE))
    rows = choose_rows(plan, params.attention.images)
    examples = make_examples(rows, classes, strategy, params) if len(rows) else []

    METRICS.mkdir(exist_ok=True)
    draw_sheet(examples, classes).save(METRICS / "attention.png")
    write_json(METRICS / "attention.json", measure_maps(examples))


if __name__ == "__main__":
    run(main)

"""Show where the fine-tuned model looks while it translates: cross-attention maps, Fig. 9 and supplement 7.2.

Reads data/plan/plan.csv, data/subsample, the training table with its masks, classes.csv, data/finetune/ and the method.
Writes metrics/attention.png and metrics/attention.json. Also a tool, for any training image and any class:

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
    class_words,
    enlarge,
    record_attention,
)
from stages.shared.diffusion.translation import (
    References,
    buckets,
    load_translator,
    read_plan,
    translate_rows,
)
from stages.shared.errors import BadInput
from stages.shared.figures.mosaics import Cell, mosaic
from stages.shared.files import write_json
from stages.shared.methods import Strategy, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, METRICS, PLAN, SUBSAMPLE
from stages.shared.running.runtime import seed_everything
from stages.shared.schemas.attention import Params
from stages.shared.tables import Table, read_classes, read_manifest

HEADINGS = (
    "reference",
    "translation",
    "identifier",
    "metaclass",
    "end of text",
)  # the maps in the order of WORDS
SHOWN = 8  # rows of the sheet
HEAT = 0.65  # opacity of a map over its reference


class Example(NamedTuple):
    """A translation, and where the model looked for each of WORDS while it was made."""

    row: Any  # the plan's, as a named tuple
    reference: Image.Image
    translation: Image.Image
    maps: np.ndarray  # float32 (len(WORDS), resolution, resolution)
    mask: (
        np.ndarray | None
    )  # the reference's foreground, bool (resolution, resolution), where it is known


def spread(count: int, among: int) -> np.ndarray:
    """Up to `count` places, evenly spread over `among`."""
    count = min(count, among)
    return np.arange(count) * among // max(count, 1)


def choose_rows(plan: pd.DataFrame, count: int) -> pd.DataFrame:
    """Up to `count` rows of the plan that have a reference."""
    rows = plan[plan["source_key"] != ""]
    return rows.iloc[spread(count, len(rows))]


def read_masks(keys: pd.Series, resolution: int) -> dict[str, np.ndarray]:
    """The foregrounds of those images that have one, and a background: bool (resolution, resolution)."""
    rows = read_manifest(DOWNLOAD / "masks")
    table = Table(DOWNLOAD / "masks", rows[rows["key"].isin(keys)])
    images = [table.image(row).convert("L") for row in range(len(table))]
    masks = [
        np.asarray(image.resize((resolution, resolution), Image.Resampling.NEAREST)) > 127
        for image in images
    ]
    return {
        key: mask for key, mask in zip(table.rows["key"], masks, strict=True) if 0 < mask.mean() < 1
    }


def examine(
    rows: pd.DataFrame, classes: pd.DataFrame, strategy: Strategy, params: Params
) -> list[Example]:
    """Translate the rows as `synthesize` does and look on; in the order of the rows."""
    resolution = params.synth.resolution
    pipeline, text = load_translator(params.base, classes, strategy, resolution)
    weights = class_prompt_weights(pipeline.tokenizer, classes, strategy)
    references = References(pipeline, Table(DOWNLOAD / "train"), rows["source_key"], params.synth)
    masks = read_masks(rows["source_key"], resolution)
    found: dict[Any, Example] = {}
    for batch in buckets(rows, params.synth.batch):
        with record_attention(
            pipeline, weights[batch["target_label"].tolist()], resolution
        ) as record:
            translations = translate_rows(pipeline, references, text, batch, params.synth)
        maps, originals = (
            enlarge(record.maps(), resolution).numpy(),
            references.images(batch["source_key"]),
        )
        for row, original, translation, scores in zip(
            batch.itertuples(), originals, translations, maps, strict=True
        ):
            mask = masks.get(str(row.source_key))
            found[row.key] = Example(row, original, translation, scores, mask)
    return [found[key] for key in rows["key"]]


def ranking(scores: np.ndarray, mask: np.ndarray) -> float:
    """Area under the ROC curve in percent: how often the foreground outranks the background; ties count half."""
    ranks = pd.Series(scores.ravel()).rank().to_numpy()[mask.ravel()]
    inside, outside = mask.sum(), (~mask).sum()
    return 100 * float((ranks.sum() - inside * (inside + 1) / 2) / (inside * outside))


def overlap(scores: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union in percent, of the mask and as many of the highest pixels as it has."""
    highest = np.zeros(scores.size, bool)
    highest[np.argsort(-scores.ravel(), kind="stable")[: mask.sum()]] = True
    return 100 * float((highest & mask.ravel()).sum() / (highest | mask.ravel()).sum())


def other(place: int, keys: list[str]) -> int | None:
    """The place of another image: half the list away, or the next after that which is not the same image again."""
    turn = [(place + len(keys) // 2 + step) % len(keys) for step in range(len(keys))]
    return next((candidate for candidate in turn if keys[candidate] != keys[place]), None)


def score(pairs: list[tuple[np.ndarray, Any]], suffix: str = "") -> dict[str, float]:
    """The means over pairs of a map and a mask; of no pair none."""
    if not pairs:
        return {}
    values = {
        "auc": [ranking(scores, mask) for scores, mask in pairs],
        "overlap": [overlap(scores, mask) for scores, mask in pairs],
    }
    return {name + suffix: round(float(np.mean(each)), 2) for name, each in values.items()}


def measure(examples: list[Example]) -> dict[str, Any]:
    """How well each word's map finds its reference's foreground and, for chance, another reference's.

    That chance is far from 50 percent where objects stand in the middle. No measures where no mask is known.
    """
    result: dict[str, Any] = {"images": len(examples)}
    if examples:
        result["strength"] = round(
            float(np.mean([example.row.strength for example in examples])), 2
        )
    known = [example for example in examples if example.mask is not None]
    others = [
        other(place, [example.row.source_key for example in known]) for place in range(len(known))
    ]
    for number, word in enumerate(WORDS if known else ()):
        own = [(example.maps[number], example.mask) for example in known]
        crossed = [
            (own[place][0], known[far].mask) for place, far in enumerate(others) if far is not None
        ]
        result[word] = score(own) | score(crossed, "_chance")
    return result


def heat(reference: Image.Image, scores: np.ndarray) -> Image.Image:
    """The map over its image in grey, from its lowest value (dark) to its highest (bright)."""
    scaled = (scores - scores.min()) / max(float(np.ptp(scores)), 1e-12)
    colours = (255 * matplotlib.colormaps["inferno"](scaled)[..., :3]).round().astype(np.uint8)
    return Image.blend(reference.convert("L").convert("RGB"), Image.fromarray(colours), HEAT)


def draw(example: Example, names: list[str], words: tuple[str, ...]) -> list[Cell | None]:
    """A row of the sheet; each map with its word and, where a mask is known, its ranking."""
    row, mask = example.row, example.mask
    translation = Cell(
        example.translation, (f"→ {names[row.target_label]}", f"s = {row.strength:g}")
    )
    cells: list[Cell | None] = [Cell(example.reference, (names[row.source_label],)), translation]
    for word, scores in zip(words, example.maps, strict=True):
        found = () if mask is None else (f"AUC {ranking(scores, mask):.0f} %",)
        cells.append(Cell(heat(example.reference, scores), (word, *found)))
    return cells


def draw_sheet(examples: list[Example], classes: pd.DataFrame, strategy: Strategy) -> Image.Image:
    """SHOWN of the examples in rows."""
    names, words = list(classes["name"]), class_words(classes, strategy)
    shown = [examples[place] for place in spread(SHOWN, len(examples))]
    return mosaic(
        HEADINGS, [draw(each, names, (*words[each.row.target_label], "<eot>")) for each in shown]
    )


def plan_pair(arguments: Namespace, classes: pd.DataFrame) -> pd.DataFrame:
    """The tool's arguments as a plan of one row. Raises BadInput for what cannot be drawn or written."""
    key, target, train = arguments.reference, arguments.target, DOWNLOAD / "train"
    labels = read_manifest(train).set_index("key")["label"]
    if key not in labels.index:
        raise BadInput(
            f"{key}: is no key of {train}/manifest.csv; take one from there, like {labels.index[0]}"
        )
    names = list(classes["name"])
    if target not in names:
        close = [*get_close_matches(target, names, n=1), names[0]]
        raise BadInput(
            f"{target}: is no class of {DOWNLOAD}/classes.csv; take one from there, like {close[0]!r}"
        )
    if not 0 < arguments.strength <= 1:
        raise BadInput(f"STRENGTH: {arguments.strength:g} is not in (0, 1]; take 0.7, say")
    if arguments.output.suffix != ".png" or not arguments.output.parent.is_dir():
        raise BadInput(f"{arguments.output}: is no .png in a folder that exists; name another")
    row = {
        "key": key,
        "source_key": key,
        "source_label": labels[key],
        "target_label": names.index(target),
    }
    return pd.DataFrame([row | {"strength": arguments.strength, "seed": 0}])


def read_arguments() -> Namespace:
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
    arguments, params, classes, strategy = (
        read_arguments(),
        load(Params),
        read_classes(DOWNLOAD),
        read_strategy(),
    )
    seed_everything(0)
    if arguments.reference:
        examples = examine(plan_pair(arguments, classes), classes, strategy, params)
        draw_sheet(examples, classes, strategy).save(arguments.output)
        return
    rows = choose_rows(
        read_plan(PLAN / "plan.csv", read_manifest(SUBSAMPLE)), params.attention.images
    )
    examples = examine(rows, classes, strategy, params) if len(rows) else []
    METRICS.mkdir(exist_ok=True)
    draw_sheet(examples, classes, strategy).save(METRICS / "attention.png")
    write_json(METRICS / "attention.json", measure(examples))


if __name__ == "__main__":
    main()

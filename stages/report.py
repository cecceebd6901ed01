"""One page to look at: what the arms reach, what was synthesised, what the filter took out.

Reads: metrics/{evaluate.json, filter.json, per_class.csv, train/<arm>.csv}, data/download/{classes.csv, train/},
       data/subsample/manifest.csv, data/synthesize/, data/filter/{manifest.csv, dropped.csv}
Writes: metrics/report.html (self-contained: no script, nothing from a network), metrics/samples.png
Paper: Sec. 4 (Tables 1 to 4), Fig. 4 (references and their translations), Eq. 3 (the label beside each image)
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image
from pydantic import Field

from stages.shared.curves import arm_colours, curves
from stages.shared.errors import BadInput
from stages.shared.mosaics import Cell, data_uri, mosaic
from stages.shared.params import Section, load
from stages.shared.tables import Table, read_classes, read_manifest

DATA, METRICS = Path("data"), Path("metrics")
SYNTHETIC_COLUMNS = ["source_key", "source_label", "target_label", "strength", "score"]
STRIPS, DRAWN, SHOWN = 8, 4, 16  # references, samples a class where there is no reference, images of the filter
GROUPS = {
    "waterbird_water": "waterbirds on water",
    "waterbird_land": "waterbirds on land",
    "landbird_land": "landbirds on land",
    "landbird_water": "landbirds on water",
}


class Synth(Section):
    gamma: float = Field(ge=0)


class Params(Section):
    synth: Synth


class Sample(NamedTuple):
    """A synthetic image, how it came about and what it is taught as: `weight` on the target, the rest on the source."""

    image: Image.Image
    source: str
    target: str
    strength: float
    weight: float
    score: float


class Strip(NamedTuple):
    """A real image and the synthetic ones beside it; None where a strength has none."""

    reference: Image.Image
    name: str
    samples: list[Sample | None]


def target_weight(source_label: int, target_label: int, strength: float, gamma: float) -> float:
    """The target's share of the soft label, s^gamma (Eq. 3); all of it without another class's reference."""
    return 1.0 if source_label in (-1, target_label) else strength**gamma


def samples(rows: pd.DataFrame, names: list[str], gamma: float) -> list[Sample]:
    """The rows of data/synthesize's table as images with their story."""
    table = Table(DATA / "synthesize", rows)
    strengths = pd.to_numeric(rows["strength"], errors="coerce")
    stories = zip(rows["source_label"], rows["target_label"], strengths, rows["score"], strict=True)
    return [
        Sample(
            image=table.image(row),
            source=names[source] if source >= 0 else "",
            target=names[target],
            strength=strength,
            weight=target_weight(source, target, strength, gamma),
            score=score,
        )
        for row, (source, target, strength, score) in enumerate(stories)
    ]


def choose_translations(rows: pd.DataFrame, count: int) -> list[list[int | None]]:
    """For up to `count` references, the places of a row for each strength, ascending; None where there is none.

    First come references that have every strength, towards one target where possible, each of another class.
    """
    strengths = sorted(rows["strength"].unique())
    spread = rows.groupby(["source_key", "target_label"])["strength"].transform("nunique")
    ordered = rows.assign(place=range(len(rows)), spread=-spread).sort_values(["spread", "target_label", "place"])
    candidates = []
    for key, group in ordered.groupby("source_key"):
        chosen = group.drop_duplicates("strength")
        by_strength = dict(zip(chosen["strength"], chosen["place"], strict=True))
        rank = (-len(chosen), chosen["target_label"].nunique(), key)
        candidates.append((rank, chosen["source_label"].iloc[0], [by_strength.get(s) for s in strengths]))
    return [places for _, _, places in _spread_out(sorted(candidates, key=lambda c: c[0]), count)]


def _spread_out(candidates: list[tuple], count: int) -> list[tuple]:
    """The first `count`, taking from each class (second item) once before any class twice."""
    turns: dict[int, int] = {}
    queue = []
    for candidate in candidates:
        turn = turns.get(candidate[1], 0)
        turns[candidate[1]] = turn + 1
        queue.append((turn, candidate))
    return [candidate for _, candidate in sorted(queue, key=lambda item: item[0])[:count]]


def choose_drawn(rows: pd.DataFrame, count: int, each: int) -> list[list[int | None]]:
    """Where images come from noise alone: the places of the first `each` rows of up to `count` targets."""
    places = rows.assign(place=range(len(rows))).groupby("target_label")["place"].apply(list)
    return [[*found[:each], *[None] * (each - len(found))] for found in places.iloc[:count]]


def build_strips(kept: pd.DataFrame, real: pd.DataFrame, names: list[str], gamma: float) -> list[Strip]:
    """Synthetic images beside the reference each was made from, or beside a real image of the class (gen)."""
    drawn = without_reference(kept)
    chosen = choose_drawn(kept, STRIPS, DRAWN) if drawn else choose_translations(kept, STRIPS)
    photos = Table(DATA / "download/train", real)
    row_of = {key: row for row, key in reversed(list(enumerate(real["label" if drawn else "key"])))}
    strips = []
    for places in chosen:
        picked = kept.iloc[[place for place in places if place is not None]]
        key = picked["target_label" if drawn else "source_key"].iloc[0]
        if key not in row_of:
            raise BadInput(f"{DATA}/filter/manifest.csv: reference {key!r} is not in the subset; run `dvc repro`")
        shown = iter(samples(picked, names, gamma))
        cells = [None if place is None else next(shown) for place in places]
        strips.append(Strip(photos.image(row_of[key]), names[real["label"].iloc[row_of[key]]], cells))
    return strips


def without_reference(rows: pd.DataFrame) -> bool:
    return bool((rows["source_key"] == "").all())


def headings(kept: pd.DataFrame) -> list[str]:
    if without_reference(kept):
        return ["a real one", *["from noise"] * DRAWN]
    return ["reference", *[f"s = {strength:g}" for strength in sorted(kept["strength"].unique())]]


def sheet(titles: list[str], strips: list[Strip]) -> Image.Image:
    """The strips as one picture, for `dvc plots`."""
    rows: list[list[Cell | None]] = [
        [
            Cell(strip.reference, (strip.name,)),
            *[sample and Cell(sample.image, caption(sample)) for sample in strip.samples],
        ]
        for strip in strips
    ]
    return mosaic(titles, rows)


def caption(sample: Sample) -> tuple[str, str]:
    """Where the image was steered to, and its label."""
    return (f"→ {sample.target}" if sample.source else sample.target), label_text(sample)


def label_text(sample: Sample) -> str:
    if sample.weight == 1:
        return "label 1.00 target"
    return f"label {sample.weight:.2f} / {1 - sample.weight:.2f}"


def excludes_zero(interval: list[float] | None) -> str:
    """Says better or worse, or nothing where the interval leaves it open."""
    if not interval:
        return ""
    return "better" if interval[0] > 0 else "worse" if interval[1] < 0 else ""


def render(context: dict[str, Any]) -> str:
    """Fill in the page; whatever a class or an arm is called is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": data_uri, "excludes_zero": excludes_zero, "label_text": label_text}
    environment.filters |= {"number": number, "signed": signed}
    return environment.get_template("report.html.j2").render(context)


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")
    return json.loads(path.read_text())


def read_csv(path: Path) -> pd.DataFrame:
    """A table of metrics; classes may be called "NA"."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")
    rows = pd.read_csv(path, dtype={"class": str}, keep_default_na=False)
    for column in rows.columns.drop("class", errors="ignore"):
        rows[column] = pd.to_numeric(rows[column], errors="coerce")
    return rows


def gather(gamma: float) -> dict[str, Any]:
    """Everything that the page shows."""
    classes, real = read_classes(DATA / "download"), read_manifest(DATA / "subsample")
    names = list(classes["name"])
    kept, dropped = (
        read_manifest(DATA / "filter", SYNTHETIC_COLUMNS, name) for name in ("manifest.csv", "dropped.csv")
    )
    evaluation = read_json(METRICS / "evaluate.json")
    arms = dict(sorted(evaluation["arms"].items(), key=lambda item: (item[0] != "baseline", item[0])))
    histories = {arm: read_csv(METRICS / "train" / f"{arm}.csv") for arm in arms}
    found = {group for result in arms.values() for group in result.get("waterbird", {}).get("groups", {})}
    return {
        "arms": arms,
        "best_kept": samples(kept.sort_values("score", ascending=False, kind="stable").head(SHOWN), names, gamma),
        "colours": arm_colours(arms),
        "curves": curves(histories),
        "filter": read_json(METRICS / "filter.json"),
        "gain": evaluation.get("gain", {}),
        "gamma": gamma,
        "groups": {group: GROUPS.get(group, group) for group in sorted(found, key=[*GROUPS, *sorted(found)].index)},
        "headings": headings(kept),
        "metaclass": " / ".join(classes["metaclass"].unique()),
        "class_sizes": real["label"].value_counts().reindex(range(len(names)), fill_value=0).tolist(),
        "per_class": read_csv(METRICS / "per_class.csv").to_dict("records"),
        "strips": build_strips(kept, real, names, gamma),
        "trials": max(int(history["trial"].nunique()) for history in histories.values()),
        "worst_dropped": samples(dropped.sort_values("score", kind="stable").head(SHOWN), names, gamma),
    }


def main() -> None:
    context = gather(load(Params).synth.gamma)
    sheet(context["headings"], context["strips"]).save(METRICS / "samples.png")
    (METRICS / "report.html").write_text(render(context), encoding="utf-8")


if __name__ == "__main__":
    main()

"""One page to look at: what the arms reach, what was made, how true it is, what was filtered out.

Reads:  metrics/{evaluate,filter,assess,attention}.json, metrics/{attention.png,per_class.csv},
        metrics/plots/curves.csv; data/download/{classes.csv,train}, data/subsample/manifest.csv,
        data/synthesize/, data/filter/{manifest,dropped}.csv, data/method/{filter,plan}.json
Writes: metrics/report.html (self-contained: no script, nothing from a network),
        metrics/samples.png
Paper:  Sec. 4 (Tables 1 to 4), Fig. 4 (references and their translations), Eq. 3 (the label beside
        each image)
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from stages.shared.classifier.target_weight import target_share
from stages.shared.errors import BadInput
from stages.shared.figures.curves import arm_colours, curves
from stages.shared.figures.mosaics import data_uri, figure_uri
from stages.shared.figures.samples import (
    build_strips,
    headings,
    label_text,
    scored,
    sheet,
    towards,
    without_reference,
)
from stages.shared.figures.verdict import (
    LOSS,
    judge_arm,
    sort_classes,
    tell_gain,
    tell_losers,
    tell_places,
)
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import TITLES, read_filter, read_mode
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FILTER, METRICS, PLOTS, SUBSAMPLE
from stages.shared.running.inputs import run
from stages.shared.schemas.report import Params

SYNTHETIC_COLUMNS = ["source_key", "source_label", "target_label", "strength", "score"]
SHOWN = 16  # images of the filter
DIGITS = {"judge": 1, "inception": 1}  # of measures whose values exceed 1; others have 3
GROUPS = {
    "waterbird_water": "waterbirds on water",
    "waterbird_land": "waterbirds on land",
    "landbird_land": "landbirds on land",
    "landbird_water": "landbirds on water",
}


class FidelityColumn(NamedTuple):
    """A column of the fidelity table; `values` by strength, and for "all"."""

    title: str
    unit: str
    values: dict[str, float | None]
    digits: int


def fidelity(assess: dict[str, Any]) -> list[FidelityColumn]:
    """The measures of metrics/assess.json that could be taken.

    Photographs without masks, say, have no background columns.
    """
    faithfulness = assess.get("faithfulness", {})
    background = assess.get("background", {})
    diversity = assess.get("diversity", {})
    frechet = assess.get("frechet", {})

    judged_by = faithfulness.get("measure")
    compared_by = frechet.get("measure")
    unit = "% recognised as the target" if judged_by == "judge" else judged_by
    columns = [
        ("faithfulness", unit, faithfulness, DIGITS.get(judged_by, 3)),
        ("background kept", "% nearer to its own than to another's", background.get("kept"), 1),
        ("background error", "mean difference, of 255", background.get("error"), 1),
        ("diversity", f"{diversity.get('measure')} distance within a class", diversity, 3),
        ("Fréchet distance", f"{compared_by}, to real images", frechet, DIGITS.get(compared_by, 3)),
    ]

    taken = []
    for title, unit, part, digits in columns:
        if part and {"strength", "all"} & set(part):
            values = part.get("strength", {}) | {"all": part.get("all")}
            taken.append(FidelityColumn(title, unit, values, digits))

    return taken


def strengths_shown(columns: list[FidelityColumn]) -> list[str]:
    """The strengths, ascending, and "all"."""
    strengths = {strength for column in columns for strength in column.values} - {"all"}
    return [*sorted(strengths, key=float), "all"]


def direction(interval: list[float] | None) -> str:
    """better or worse, or nothing where the interval leaves it open."""
    if not interval:
        return ""
    if interval[0] > 0:
        return "better"
    return "worse" if interval[1] < 0 else ""


def render(context: dict[str, Any]) -> str:
    """Fill in the page; the names of classes and arms are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    filters = (
        data_uri, direction, figure_uri, label_text, listed, number, signed, strengths_shown,
        tell_gain, tell_losers, tell_places, towards,
    )  # fmt: skip
    environment.filters |= {function.__name__: function for function in filters}

    return environment.get_template("report.html.j2").render(context)


def number(value: float | None, digits: int = 2) -> str:
    """The value, or a dash where there is none."""
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    """The value with its sign, a true minus, or a dash where there is none."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def listed(value: float | list[float]) -> str:
    """One number, or several."""
    values = value if isinstance(value, list) else [value]
    return ", ".join(f"{single:g}" for single in values)


def existing(path: Path) -> Path:
    """The path itself; raises BadInput where there is no file."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")
    return path


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(existing(path).read_text())


def read_csv(path: Path) -> pd.DataFrame:
    """A table of metrics; classes and arms may be called "NA"."""
    rows = pd.read_csv(existing(path), dtype={"class": str, "arm": str}, keep_default_na=False)
    for column in rows.columns.drop(["class", "arm"], errors="ignore"):
        rows[column] = pd.to_numeric(rows[column], errors="coerce")

    return rows


def read_images(gamma: float | list[float]) -> dict[str, Any]:
    """The page's share of data/: classes, images beside their references, best and worst scores."""
    classes = read_classes(DOWNLOAD)
    names = list(classes["name"])
    real = read_manifest(SUBSAMPLE, classes=len(names))
    kept = read_manifest(FILTER, SYNTHETIC_COLUMNS, "manifest.csv", len(names))
    dropped = read_manifest(FILTER, SYNTHETIC_COLUMNS, "dropped.csv", len(names))
    _mode, strengths = read_mode()

    sizes = real["label"].value_counts().reindex(range(len(names)), fill_value=0)
    weighed = kept.assign(weight=target_share(kept, gamma, strengths))
    best = kept.sort_values("score", ascending=False, kind="stable").head(SHOWN)
    worst = dropped.sort_values("score", kind="stable").head(SHOWN)

    return {
        "best_kept": scored(best, names),
        "class_sizes": sizes.tolist(),
        "headings": headings(kept),
        "metaclass": " / ".join(classes["metaclass"].unique()),
        "strips": build_strips(weighed, real, names),
        "translated": not without_reference(kept),
        "worst_dropped": scored(worst, names),
    }


def read_metrics(synthetic: list[str]) -> dict[str, Any]:
    """The page's share of metrics/, the arms in the order of params.yaml.

    The verdict is on the first of the `synthetic` arms.
    """
    evaluation = read_json(METRICS / "evaluate.json")
    attention = read_json(METRICS / "attention.json")
    assess = read_json(METRICS / "assess.json")
    history = read_csv(PLOTS / "curves.csv")
    arms = {arm: evaluation["arms"][arm] for arm in history["arm"].unique()}
    gain = evaluation.get("gain", {})
    rows = read_csv(METRICS / "per_class.csv")
    per_class: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]

    verdict = None
    if synthetic:
        verdict = judge_arm(synthetic[0], arms, gain, per_class)
        per_class = sort_classes(per_class, synthetic[0])

    figure = None
    if attention["images"]:
        figure = Image.open(existing(METRICS / "attention.png"))

    return {
        "arms": arms,
        "assess": assess,
        "attention": attention,
        "attention_image": figure,
        "colours": arm_colours(arms),
        "criterion": read_filter()[0],
        "curves": curves(history),
        "fidelity": fidelity(assess) if assess["images"] else [],
        "filter": read_json(METRICS / "filter.json"),
        "gain": gain,
        "groups": title_groups(arms),
        "loss": LOSS,
        "per_class": per_class,
        "trials": int(history["trials"].max()),
        "verdict": verdict,
    }


def title_groups(arms: dict[str, Any]) -> dict[str, str]:
    """The Waterbird groups that some arm was tested on, with their titles: known ones first."""
    groups: set[str] = set()
    for result in arms.values():
        groups |= set(result.get("waterbird", {}).get("groups", {}))

    ordered = [group for group in GROUPS if group in groups] + sorted(groups - set(GROUPS))
    return {group: GROUPS.get(group, group) for group in ordered}


def summarise(arms: dict[str, Any], gain: dict[str, Any]) -> list[str]:
    """A line for each arm: its top-1 and, with the 95 % interval, what it gains."""
    lines = []
    for arm, result in arms.items():
        line = f"{arm}: top-1 {result['top1']:.1f}"
        change = gain.get(arm, {})
        if "top1_ci" in change:
            line += " ({:+.1f} [{:.1f}, {:.1f}])".format(change["top1"], *change["top1_ci"])
        lines.append(line)

    return lines


def main() -> None:
    params = load(Params)
    images = read_images(params.synth.gamma)
    sheet(images["headings"], images["strips"]).save(METRICS / "samples.png")

    page = {"gamma": params.synth.gamma, "method": TITLES[params.method]}
    measured = read_metrics(list(params.arms.get("synthetic", {})))
    (METRICS / "report.html").write_text(render(page | images | measured), encoding="utf-8")

    print("\n".join(summarise(measured["arms"], measured["gain"])))
    print(f"the whole report: {METRICS}/report.html")


if __name__ == "__main__":
    run(main)

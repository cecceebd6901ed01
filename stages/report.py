"""One page to look at: what the arms reach, what was synthesised, how true it is, what the filter took out.

Reads: metrics/{evaluate,filter,assess,attention}.json, metrics/{attention.png, per_class.csv, plots/curves.csv},
       data/download/{classes.csv, train/}, data/subsample/manifest.csv, data/synthesize/,
       data/filter/{manifest.csv, dropped.csv}, data/method/{filter,plan}.json
Writes: metrics/report.html (self-contained: no script, nothing from a network), metrics/samples.png
Paper: Sec. 4 (Tables 1 to 4), Fig. 4 (references and their translations), Eq. 3 (the label beside each image)
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
from stages.shared.methods import TITLES, read_criterion, read_mode
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FILTER, METRICS, PLOTS, SUBSAMPLE
from stages.shared.schemas.report import Params
from stages.shared.tables import read_classes, read_manifest

SYNTHETIC_COLUMNS = ["source_key", "source_label", "target_label", "strength", "score"]
SHOWN = 16  # images of the filter
DIGITS = {"judge": 1, "inception": 1}  # of measures whose values exceed 1; others have 3
GROUPS = {
    "waterbird_water": "waterbirds on water",
    "waterbird_land": "waterbirds on land",
    "landbird_land": "landbirds on land",
    "landbird_water": "landbirds on water",
}


class Measure(NamedTuple):
    """A column of the fidelity table; `values` by strength, and for "all"."""

    title: str
    unit: str
    values: dict[str, float | None]
    digits: int


def fidelity(assess: dict[str, Any]) -> list[Measure]:
    """The measures of metrics/assess.json that could be taken; of photographs without masks, say, no background."""
    parts = {
        name: assess.get(name, {})
        for name in ("faithfulness", "background", "diversity", "frechet")
    }
    by = {name: part.get("measure") for name, part in parts.items()}
    unit = "% recognised as the target" if by["faithfulness"] == "judge" else by["faithfulness"]
    columns = [
        ("faithfulness", unit, parts["faithfulness"], DIGITS.get(by["faithfulness"], 3)),
        (
            "background kept",
            "% nearer to its own than to another's",
            parts["background"].get("kept"),
            1,
        ),
        ("background error", "mean difference, of 255", parts["background"].get("error"), 1),
        ("diversity", f"{by['diversity']} distance within a class", parts["diversity"], 3),
        (
            "Fréchet distance",
            f"{by['frechet']}, to real images",
            parts["frechet"],
            DIGITS.get(by["frechet"], 3),
        ),
    ]
    return [
        Measure(title, unit, part.get("strength", {}) | {"all": part.get("all")}, digits)
        for title, unit, part, digits in columns
        if part and {"strength", "all"} & set(part)
    ]


def strengths_shown(measures: list[Measure]) -> list[str]:
    """The strengths, ascending, and "all"."""
    strengths = {strength for measure in measures for strength in measure.values} - {"all"}
    return [*sorted(strengths, key=float), "all"]


def direction(interval: list[float] | None) -> str:
    """better or worse, or nothing where the interval leaves it open."""
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
    filters = (
        data_uri,
        direction,
        figure_uri,
        label_text,
        listed,
        number,
        signed,
        strengths_shown,
        towards,
    )
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template("report.html.j2").render(context)


def number(value: float | None, digits: int = 2) -> str:
    return "–" if value is None or pd.isna(value) else f"{value:.{digits}f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def listed(value: float | list[float]) -> str:
    """One number, or several."""
    return ", ".join(f"{number:g}" for number in (value if isinstance(value, list) else [value]))


def found(path: Path) -> Path:
    """The path itself. Raises BadInput where there is nothing."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")
    return path


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(found(path).read_text())


def read_csv(path: Path) -> pd.DataFrame:
    """A table of metrics; classes and arms may be called "NA"."""
    rows = pd.read_csv(found(path), dtype={"class": str, "arm": str}, keep_default_na=False)
    for column in rows.columns.drop(["class", "arm"], errors="ignore"):
        rows[column] = pd.to_numeric(rows[column], errors="coerce")
    return rows


def read_images(gamma: float | list[float]) -> dict[str, Any]:
    """What the page shows of data/: classes, images beside their references, the filter's best and worst."""
    classes = read_classes(DOWNLOAD)
    names = list(classes["name"])
    real = read_manifest(SUBSAMPLE, classes=len(names))
    kept, dropped = (
        read_manifest(FILTER, SYNTHETIC_COLUMNS, name, len(names))
        for name in ("manifest.csv", "dropped.csv")
    )
    _mode, strengths = read_mode()
    best = kept.sort_values("score", ascending=False, kind="stable").head(SHOWN)
    worst = dropped.sort_values("score", kind="stable").head(SHOWN)
    return {
        "best_kept": scored(best, names),
        "class_sizes": real["label"]
        .value_counts()
        .reindex(range(len(names)), fill_value=0)
        .tolist(),
        "headings": headings(kept),
        "metaclass": " / ".join(classes["metaclass"].unique()),
        "strips": build_strips(
            kept.assign(weight=target_share(kept, gamma, strengths)), real, names
        ),
        "translated": not without_reference(kept),
        "worst_dropped": scored(worst, names),
    }


def read_metrics() -> dict[str, Any]:
    """What the page shows of metrics/, the arms in the order of params.yaml."""
    evaluation, attention = (
        read_json(METRICS / "evaluate.json"),
        read_json(METRICS / "attention.json"),
    )
    assess, history = read_json(METRICS / "assess.json"), read_csv(PLOTS / "curves.csv")
    arms = {arm: evaluation["arms"][arm] for arm in history["arm"].unique()}
    groups = {
        group for result in arms.values() for group in result.get("waterbird", {}).get("groups", {})
    }
    return {
        "arms": arms,
        "assess": assess,
        "attention": attention,
        "attention_image": Image.open(found(METRICS / "attention.png"))
        if attention["images"]
        else None,
        "colours": arm_colours(arms),
        "criterion": read_criterion(),
        "curves": curves(history),
        "fidelity": fidelity(assess) if assess["images"] else [],
        "filter": read_json(METRICS / "filter.json"),
        "gain": evaluation.get("gain", {}),
        "groups": {
            group: GROUPS.get(group, group)
            for group in sorted(groups, key=[*GROUPS, *sorted(groups)].index)
        },
        "per_class": read_csv(METRICS / "per_class.csv").to_dict("records"),
        "trials": int(history["trials"].max()),
    }


def summarise(arms: dict[str, Any], gain: dict[str, Any]) -> list[str]:
    """A line for each arm: its top-1 and, with the 95 % interval, what it gains."""
    lines = [f"{arm}: top-1 {result['top1']:.1f}" for arm, result in arms.items()]
    changes = [gain.get(arm, {}) for arm in arms]
    return [
        line
        + (
            " ({:+.1f} [{:.1f}, {:.1f}])".format(change["top1"], *change["top1_ci"])
            if "top1_ci" in change
            else ""
        )
        for line, change in zip(lines, changes, strict=True)
    ]


def main() -> None:
    params = load(Params)
    images = read_images(params.synth.gamma)
    page = {"gamma": params.synth.gamma, "method": TITLES[params.method]}
    sheet(images["headings"], images["strips"]).save(METRICS / "samples.png")
    measured = read_metrics()
    (METRICS / "report.html").write_text(render(page | images | measured), encoding="utf-8")
    print("\n".join(summarise(measured["arms"], measured["gain"])))
    print(f"the whole report: {METRICS}/report.html")


if __name__ == "__main__":
    main()

"""One page to look at: did it help, where, and what was made for it.

Reads:  metrics/{evaluate,filter,assess,attention}.json, metrics/{attention.png,per_class.csv},
        metrics/plots/{curves,confusion}.csv; data/download/{classes.csv,train,test},
        data/subsample/manifest.csv, data/finetune/losses.csv, data/synthesize/,
        data/filter/{manifest,dropped}.csv, data/method/{filter,plan}.json
Writes: metrics/report.html (self-contained: no script, nothing from a network),
        metrics/samples.png, metrics/summary.md
Paper:  Sec. 4 (Tables 1 to 4), Fig. 4 (references and their translations), Eq. 3 (the label beside
        each image)
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from stages.shared.classifier.target_weight import target_share
from stages.shared.errors import BadInput
from stages.shared.figures.curves import arm_colours, curves, draw_losses
from stages.shared.figures.page import fidelity, list_gains, render, span_axis
from stages.shared.figures.samples import (
    build_strips,
    headings,
    scored,
    sheet,
    without_reference,
)
from stages.shared.figures.summary import summarise
from stages.shared.figures.verdict import CHANGE, LOSS, judge_arm, list_mistakes, sort_classes
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import TITLES, read_filter, read_mode
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, EMBEDDED, FILTER, FINETUNE, METRICS, PLOTS, SUBSAMPLE
from stages.shared.running.inputs import run
from stages.shared.schemas.report import Params
from stages.shared.watching.seconds import read_seconds, tell_seconds

TEMPLATE = Path(__file__).parent / "report.html.j2"
SYNTHETIC_COLUMNS = ["source_key", "source_label", "target_label", "strength", "score"]
SHOWN = 8  # images of the filter, to either side of its threshold and at its end
SHEET_ROWS = 3  # of samples.png
GROUPS = {
    "waterbird_water": "waterbirds on water",
    "waterbird_land": "waterbirds on land",
    "landbird_land": "landbirds on land",
    "landbird_water": "landbirds on water",
}


def existing(path: Path) -> Path:
    """The path itself; raises BadInput where there is no file."""
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")
    return path


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(existing(path).read_text())


def read_csv(path: Path, words: list[str]) -> pd.DataFrame:
    """A table of metrics; in the columns of `words` classes and arms may be called "NA"."""
    rows = pd.read_csv(existing(path), dtype=dict.fromkeys(words, str), keep_default_na=False)
    for column in rows.columns.drop(words):
        rows[column] = pd.to_numeric(rows[column], errors="coerce")

    return rows


def read_images(gamma: float | list[float]) -> dict[str, Any]:
    """The page's share of data/: classes, images beside their references, and what was filtered."""
    classes = read_classes(DOWNLOAD)
    names = list(classes["name"])
    real = read_manifest(SUBSAMPLE, classes=len(names))
    kept = read_manifest(FILTER, SYNTHETIC_COLUMNS, "manifest.csv", len(names))
    dropped = read_manifest(FILTER, SYNTHETIC_COLUMNS, "dropped.csv", len(names))
    _mode, strengths = read_mode()

    sizes = real["label"].value_counts().reindex(range(len(names)), fill_value=0)
    weighed = kept.assign(weight=target_share(kept, gamma, strengths))
    kept = kept.sort_values("score", kind="stable")
    dropped = dropped.sort_values("score", kind="stable")

    return {
        "class_sizes": sizes.tolist(),
        "headings": headings(weighed),
        "just_dropped": scored(dropped.iloc[::-1].head(SHOWN), names),
        "just_kept": scored(kept.head(SHOWN), names),
        "least": scored(dropped.head(SHOWN), names),
        "metaclass": " / ".join(classes["metaclass"].unique()),
        "strips": build_strips(weighed, real, names),
        "translated": not without_reference(weighed),
    }


def read_metrics(synthetic: list[str]) -> dict[str, Any]:
    """The page's share of metrics/, the arms in the order of params.yaml.

    The verdict is on the first of the `synthetic` arms.
    """
    evaluation = read_json(METRICS / "evaluate.json")
    assess = read_json(METRICS / "assess.json")
    history = read_csv(PLOTS / "curves.csv", ["arm"])
    arms = {arm: evaluation["arms"][arm] for arm in history["arm"].unique()}
    gain = {arm: evaluation["gain"][arm] for arm in arms if arm in evaluation.get("gain", {})}
    gains = list_gains(gain)

    return {
        "arms": arms,
        "assess": assess,
        "axis": span_axis(gains),
        "colours": arm_colours(arms),
        "criterion": read_filter()[0],
        "curves": curves(history),
        "fidelity": fidelity(assess) if assess["images"] else [],
        "filter": read_json(METRICS / "filter.json"),
        "gain": gain,
        "gains": gains,
        "groups": title_groups(arms),
        "losses": read_losses(),
        "trials": int(history["trials"].max()),
        **read_attention(),
        **read_verdict(synthetic, arms, gain),
    }


def read_losses() -> list[str]:
    """The curve of fine-tuning's loss; none where the method learns nothing."""
    losses = read_csv(FINETUNE / "losses.csv", [])
    return [draw_losses(losses)] if len(losses) else []


def read_attention() -> dict[str, Any]:
    """Its measures, and its figure where there is one."""
    attention = read_json(METRICS / "attention.json")
    figure = None
    if attention["images"]:
        figure = Image.open(existing(METRICS / "attention.png"))

    return {"attention": attention, "attention_image": figure}


def read_verdict(
    synthetic: list[str], arms: dict[str, Any], gain: dict[str, Any]
) -> dict[str, Any]:
    """What the first synthetic arm changes, in all and by class; nothing where there is none."""
    rows = read_csv(METRICS / "per_class.csv", ["class"])
    per_class: list[dict[str, Any]] = rows.to_dict("records")  # type: ignore[assignment]
    if not synthetic:
        return {"loss": LOSS, "mistakes": [], "per_class": per_class, "verdict": None}

    arm = synthetic[0]
    images = count_tests()
    per_class = sort_classes(per_class, arm)
    changes = [abs(row[CHANGE]) for row in per_class if row[CHANGE]]
    confusion = read_csv(PLOTS / "confusion.csv", ["arm", "actual", "predicted"])
    return {
        "changed": CHANGE,
        "loss": LOSS,
        "mistakes": list_mistakes(arm, confusion, images),
        "per_class": per_class,
        "verdict": judge_arm(arm, arms, gain, per_class, images),
        "widest": max(changes, default=LOSS),  # what the widest bar stands for
    }


def count_tests() -> dict[str, int]:
    """The test images of each class, by its name."""
    names = read_classes(DOWNLOAD)["name"]
    labels = read_manifest(DOWNLOAD / "test", classes=len(names))["label"]
    counts = labels.value_counts().reindex(range(len(names)), fill_value=0)
    return dict(zip(names, counts.tolist(), strict=True))


def title_groups(arms: dict[str, Any]) -> dict[str, str]:
    """The Waterbird groups that some arm was tested on, with their titles: known ones first."""
    groups: set[str] = set()
    for result in arms.values():
        groups |= set(result.get("waterbird", {}).get("groups", {}))

    ordered = [group for group in GROUPS if group in groups] + sorted(groups - set(GROUPS))
    return {group: GROUPS.get(group, group) for group in ordered}


def tell_arms(arms: dict[str, Any], gain: dict[str, Any]) -> list[str]:
    """A line for each arm: its top-1 and, with the 95 % interval, what it gains."""
    lines = []
    for arm, result in arms.items():
        line = f"{arm}: top-1 {result['top1']:.1f}"
        change = gain.get(arm, {})
        if "top1_ci" in change:
            line += " ({:+.1f} [{:.1f}, {:.1f}])".format(change["top1"], *change["top1_ci"])
        lines.append(line)

    return lines


def is_toy_base(params: Params) -> bool:
    """Whether the embedded base, which knows its own world alone, was given another one."""
    return params.base.id.startswith(str(EMBEDDED)) and params.data.name != "toybirds"


def main() -> None:
    params = load(Params)
    images = read_images(params.synth.gamma)
    measured = read_metrics(list(params.arms.get("synthetic", {})))
    method = TITLES[params.method]
    title = f"{method} on {len(images['class_sizes'])} {images['metaclass']} classes"

    page = {"base": params.base.id, "gamma": params.synth.gamma, "method": method, "title": title}
    page |= {"seed": params.seed, "is_toy_base": is_toy_base(params)} | images | measured
    (METRICS / "report.html").write_text(render(TEMPLATE, page), encoding="utf-8")

    sheet(images["headings"], images["strips"][:SHEET_ROWS]).save(METRICS / "samples.png")
    parts = (measured[name] for name in ("verdict", "arms", "gain"))
    (METRICS / "summary.md").write_text(summarise(title, method, *parts), encoding="utf-8")

    print("\n".join(tell_arms(measured["arms"], measured["gain"])))
    arms = {arm for group in params.arms.values() for arm in group}
    if taken := read_seconds(arms):
        print(tell_seconds(taken))
    print(f"the whole report: {METRICS}/report.html")
    print("a classifier to take away: python -m stages.pack ARM FOLDER")


if __name__ == "__main__":
    run(main)

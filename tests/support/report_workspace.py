"""A small workspace for stages/report.py: three classes of flat images, two arms."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.report import main
from stages.shared.manifests import read_manifest, write_classes
from stages.shared.tables import encode_png, write_csv, write_table

PARAMS = """
seed: 0
method: diff-mix
data: {name: cub, url: null}
base: {id: a/base}
synth: {gamma: 0.5, steps: 25}
arms: {real: {baseline: {}}, synthetic: {a<b>: {}}}
"""
NAMES = ["Dusk Lorrel", "<script>alert(1)</script>", 'Ærøs "O\'Fjord" / Κύκνος']
STRENGTHS = [0.5, 0.7, 0.9]
PER_CLASS = 3


def flat(colour: tuple[int, int, int]) -> bytes:
    return encode_png(Image.new("RGB", (32, 32), colour))


def real_colour(row: int) -> tuple[int, int, int]:
    return (20 + 20 * row, 40, 200)


def synthetic_colour(row: int) -> tuple[int, int, int]:
    """A synthetic image's colour; red holds the reference's row, which tests read from the page."""
    return (20 + 20 * (row // len(STRENGTHS)), 220, 60 * (row % len(STRENGTHS)))


def write_images(dropped: int, gen: bool) -> None:
    """Three real images a class; of each, one translation a strength towards the next class."""
    data = Path("data")
    labels = np.repeat(range(len(NAMES)), PER_CLASS)
    real_images = map(flat, map(real_colour, range(9)))
    write_table(data / "download/train", real_images, pd.DataFrame({"label": labels}))
    write_classes(data / "download", NAMES, "bird")
    tests = pd.DataFrame({"label": [0, 1, 2] * 100})
    write_table(data / "download/test", [flat((0, 0, 0))] * len(tests), tests)

    real = read_manifest(data / "download/train")
    for folder in ("finetune", "subsample", "filter"):
        (data / folder).mkdir()
    losses = "".join(f"{step},{1 / (1 + step)}\n" for step in range(200))
    (data / "finetune/losses.csv").write_text(f"step,loss\n{losses}")
    write_csv(data / "subsample" / "manifest.csv", real)

    source = np.repeat(range(9), len(STRENGTHS))
    target = (labels[source] + 1) % len(NAMES)
    keys = "" if gen else real["key"].to_numpy()[source]
    rows = pd.DataFrame({"label": target, "source_key": keys})
    rows["source_label"] = -1 if gen else labels[source]
    rows["target_label"] = target
    rows["strength"] = 1.0 if gen else STRENGTHS * 9
    rows["seed"] = range(27)
    write_table(data / "synthesize", map(flat, map(synthetic_colour, range(27))), rows)

    scored = read_manifest(data / "synthesize").assign(score=np.linspace(0.1, 0.9, 27).round(3))
    write_csv(data / "filter" / "manifest.csv", scored.iloc[dropped:])
    write_csv(data / "filter" / "dropped.csv", scored.iloc[:dropped])


def write_metrics(waterbird: bool, shots: bool) -> None:
    groups = dict.fromkeys(
        ["waterbird_water", "waterbird_land", "landbird_land", "landbird_water"], 61.25
    )
    arm: dict[str, Any] = {"top1": 71.25, "top1_std": 1.5}
    arm |= {"waterbird": {"average": 61.25, "worst": 12.34, "groups": groups}} if waterbird else {}
    arm |= {"many": 90.0, "medium": 70.0, "few": 33.33} if shots else {}

    gain: dict[str, Any] = {"top1": 2.5, "top1_ci": [0.5, 4.5]}
    gain |= {"few": 0.0, "few_ci": [-3.0, 3.0]} if shots else {}
    gain |= {"waterbird_worst": -7.77, "waterbird_worst_ci": [-9.0, 1.0]} if waterbird else {}
    evaluation = {"arms": {"a<b>": arm, "baseline": arm}, "gain": {"a<b>": gain}}
    filtered = {"kept": 24, "dropped": 3, "score_mean": 0.5, "threshold": 0.2}

    Path("metrics/plots").mkdir(parents=True)
    Path("metrics/evaluate.json").write_text(json.dumps(evaluation))
    Path("metrics/filter.json").write_text(json.dumps(filtered))
    Path("metrics/per_class.csv").write_text(per_class_table())
    Path("metrics/plots/curves.csv").write_text(CURVES)
    Path("metrics/plots/confusion.csv").write_text(CONFUSION)


PER_CLASS_ROWS = [(1, 66.67, None), (0, 50.0, 40.0)]  # class, arm and baseline


def per_class_table() -> str:
    """The second class has no test image of the baseline's."""
    columns = ["class", "train_images", "a<b>", "baseline"]
    rows = [(NAMES[number], PER_CLASS, arm, base) for number, arm, base in PER_CLASS_ROWS]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False)


CONFUSION = """arm,actual,predicted,percent
baseline,Dusk Lorrel,Dusk Lorrel,40.0
baseline,Dusk Lorrel,<script>alert(1)</script>,60.0
a<b>,Dusk Lorrel,Dusk Lorrel,50.0
a<b>,Dusk Lorrel,<script>alert(1)</script>,50.0
"""
CURVES = """arm,epoch,loss,accuracy,loss_min,loss_max,accuracy_min,accuracy_max,trials
baseline,1,2.1,29,2.0,2.2,28,30,2
baseline,2,1.05,58.5,1.0,1.1,57,60,2
a<b>,1,2.1,29,2.0,2.2,28,30,2
a<b>,2,1.05,58.5,1.0,1.1,57,60,2
"""
FAITHFULNESS = {"all": 71.4, "kept": 80.2, "dropped": 12.5, "strength": {"0.5": 44.4, "0.9": 88.9}}
ASSESS: dict[str, Any] = {
    "images": 27,
    "faithfulness": {"measure": "judge", **FAITHFULNESS},
    "background": {
        "kept": {"all": 77.7, "strength": {"0.5": 98.3, "0.9": 62.5}},
        "error": {"all": 11.21, "strength": {"0.5": 6.1, "0.9": 20.5}},
    },
    "diversity": {
        "measure": "clip",
        "all": 0.3214,
        "strength": {"0.5": 0.3, "0.9": 0.35},
        "train": 0.301,
    },
    "frechet": {"measure": "inception", "all": 20.31, "strength": {"0.9": 24.68}},
}
ATTENTION: dict[str, Any] = {
    "images": 2,
    "strength": 0.7,
    "identifier": {"auc": 81.2, "auc_chance": 60.2, "overlap": 45.6, "overlap_chance": 30.1},
    "metaclass": {"auc": 70.1, "overlap": 35},
}


def write_studies(assess: dict[str, Any], attention: dict[str, Any]) -> None:
    Path("metrics/assess.json").write_text(json.dumps(assess))
    Path("metrics/attention.json").write_text(json.dumps(attention))
    Image.new("RGB", (3000, 300), "red").save("metrics/attention.png")


def make_page(
    waterbird: bool = True,
    shots: bool = True,
    dropped: int = 3,
    gen: bool = False,
    assess: dict[str, Any] = ASSESS,
    attention: dict[str, Any] = ATTENTION,
    criterion: str = "metaclass",
    params: str = PARAMS,
) -> str:
    """Write a workspace into the working folder, run the stage, return the page."""
    Path("params.yaml").write_text(params)
    write_images(dropped, gen)
    write_metrics(waterbird, shots)
    write_studies(assess, attention)

    mode, strength = ("gen", [1.0]) if gen else ("mix", STRENGTHS)
    Path("data/method").mkdir()
    choice = {"criterion": criterion, "drop": 0.1}
    Path("data/method/filter.json").write_text(json.dumps(choice))
    Path("data/method/plan.json").write_text(json.dumps({"mode": mode, "strength": strength}))

    main()

    return Path("metrics/report.html").read_text()

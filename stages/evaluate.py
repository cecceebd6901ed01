"""Measure the arms: top-1, many/medium/few-shot classes, Waterbird groups, gains over the baseline.

Reads:  data/train/<arm>/{predictions,curves}.csv, data/subsample/manifest.csv,
        data/download/classes.csv
Writes: metrics/evaluate.json, metrics/headline.json (its main numbers), metrics/per_class.csv;
        for `dvc plots`, metrics/plots/{curves,groups,confusion}.csv
Paper:  Sec. 4

Accuracies are percentages with two decimals; 95 % intervals are over trials and test images.
"""

from typing import Any

import numpy as np
import pandas as pd

from stages.shared.errors import BadInput
from stages.shared.files import write_csv, write_json
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.measuring.accuracy import (
    Draws,
    Splits,
    draw_weights,
    measure_arm,
    measure_gain,
    measure_parts,
    paired,
    read_answers,
    shot_groups,
)
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, METRICS, PLOTS, SUBSAMPLE, TRAIN
from stages.shared.running.inputs import run
from stages.shared.schemas.evaluate import (
    BASELINE,
    PER_CLASS_COLUMNS,
    Params,
    arm_names,
    check_orphans,
)

CURVE_COLUMNS = ["trial", "epoch", "loss", "accuracy", "learning_rate"]


def check_paired(answers: dict[str, Splits]) -> None:
    """Raises BadInput where two arms answered different questions."""
    for arm, splits in answers.items():
        for split, baseline in answers[BASELINE].items():
            if split not in splits or not paired(splits[split], baseline):
                raise BadInput(
                    f"{TRAIN}/{arm}/predictions.csv: other images or trials than {BASELINE}'s; "
                    "train both anew"
                )


def evaluate(
    answers: dict[str, Splits], shots: dict[str, np.ndarray], draws: Draws
) -> dict[str, Any]:
    """The content of metrics/evaluate.json."""
    base = answers[BASELINE]

    arms = {}
    gains = {}
    for arm, splits in answers.items():
        arms[arm] = measure_arm(splits, shots)
        if arm != BASELINE:
            gains[arm] = measure_gain(splits, base, shots, draws)

    return {"arms": arms, "gain": gains}


def headline(result: dict[str, Any]) -> dict[str, Any]:
    """The numbers that `dvc metrics show` lists: accuracy of each arm, and its gain.

    Each as a whole (top1), on few-shot classes (few), and in the worst Waterbird group (worst).
    """
    arms = {}
    for arm, measured in result["arms"].items():
        arms[arm] = {name: measured[name] for name in ("top1", "few") if name in measured}
        if "waterbird" in measured:
            arms[arm]["worst"] = measured["waterbird"]["worst"]

    names = {"top1": "top1", "few": "few", "waterbird_worst": "worst"}
    gains = {}
    for arm, gain in result["gain"].items():
        gains[arm] = {short: gain[name] for name, short in names.items() if name in gain}

    return {"arms": arms, "gain": gains}


def per_class(answers: dict[str, Splits], names: pd.Series, counts: np.ndarray) -> pd.DataFrame:
    """One row a class: its number of training images and each arm's top-1.

    The top-1 is empty where the class has no test image.
    """
    table = pd.DataFrame(dict(zip(PER_CLASS_COLUMNS, (names, counts), strict=True)))
    for arm, splits in answers.items():
        test = splits["test"]
        shares = pd.Series(test.correct.mean(0)).groupby(test.labels).mean()
        table[arm] = (100 * shares).round(2).reindex(range(len(names))).to_numpy()
    return table


def read_curves(arm: str) -> pd.DataFrame:
    """An arm's training curves, one row for each trial and epoch.

    Raises BadInput where the file is missing or has other columns.
    """
    path = TRAIN / arm / "curves.csv"
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")

    rows = pd.read_csv(path)
    if list(rows.columns) != CURVE_COLUMNS:
        raise BadInput(
            f"{path}: columns must be {', '.join(CURVE_COLUMNS)}; "
            "train the arm anew with `dvc repro -f`"
        )
    return rows


def curves(histories: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Training curves, all arms below each other.

    A row has the mean over an epoch's trials, and the lowest and highest of them.
    """
    parts = []
    for arm, history in histories.items():
        part = history.groupby("epoch", as_index=False).agg(
            loss=("loss", "mean"),
            accuracy=("accuracy", "mean"),
            loss_min=("loss", "min"),
            loss_max=("loss", "max"),
            accuracy_min=("accuracy", "min"),
            accuracy_max=("accuracy", "max"),
            trials=("trial", "nunique"),
        )
        part.insert(0, "arm", arm)
        parts.append(part.round(4))

    return pd.concat(parts)


def group_bars(
    answers: dict[str, Splits], shots: dict[str, np.ndarray], draws: Draws
) -> pd.DataFrame:
    """Accuracy by arm and part of the test data, with its interval."""
    parts = []
    for arm, splits in answers.items():
        part = measure_parts(splits, shots, draws)
        part.insert(0, "arm", arm)
        parts.append(part)

    return pd.concat(parts)


def confusion(answers: dict[str, Splits], names: pd.Series) -> pd.DataFrame:
    """What each class's test images are taken for, in percent of its answers over all trials.

    The diagonal comes first, so that both axes of a plot list the classes in their order; other
    zeros are left out.
    """
    diagonal = np.arange(len(names))
    parts = []
    for arm, splits in answers.items():
        test = splits["test"]
        matrix = np.zeros((len(names), len(names)))
        np.add.at(matrix, (np.broadcast_to(test.labels, test.predicted.shape), test.predicted), 1)
        shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)

        mistakes = np.nonzero(shares * (1 - np.eye(len(names))))
        actual, predicted = (np.concatenate([diagonal, classes]) for classes in mistakes)

        columns = {
            "arm": arm,
            "actual": names.iloc[actual].array,
            "predicted": names.iloc[predicted].array,
            "percent": shares[actual, predicted].round(2),
        }
        parts.append(pd.DataFrame(columns))

    return pd.concat(parts)


def main() -> None:
    params = load(Params)
    names = read_classes(DOWNLOAD)["name"]
    labels = read_manifest(SUBSAMPLE, classes=len(names))["label"]
    counts = np.bincount(labels, minlength=len(names))
    arms = arm_names(params.arms)
    answers = {arm: read_answers(TRAIN / arm / "predictions.csv") for arm in arms}

    check_orphans(arms)
    check_paired(answers)
    histories = {arm: read_curves(arm) for arm in arms}

    shots = shot_groups(counts, params.evaluate.many, params.evaluate.few)
    draws = draw_weights(answers[BASELINE], params.evaluate.bootstrap)
    result = evaluate(answers, shots, draws)
    tables = {
        METRICS / "per_class.csv": per_class(answers, names, counts),
        PLOTS / "curves.csv": curves(histories),
        PLOTS / "groups.csv": group_bars(answers, shots, draws),
        PLOTS / "confusion.csv": confusion(answers, names),
    }

    write_json(METRICS / "evaluate.json", result, indent=2)
    write_json(METRICS / "headline.json", headline(result), indent=2)
    for path, table in tables.items():
        write_csv(path, table)


if __name__ == "__main__":
    run(main)

"""Measure the arms: top-1, many/medium/few-shot classes, Waterbird groups, and gains over the baseline (Sec. 4).

Reads data/train/<arm>/predictions.csv, metrics/train/<arm>.csv, data/subsample/manifest.csv, data/download/classes.csv.
Writes metrics/evaluate.json, metrics/per_class.csv and, for `dvc plots`, metrics/plots/{curves,groups,confusion}.csv.
Accuracies are percentages with two decimals; intervals are 95 % bootstrap over trials and test images.
"""

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator

from stages.shared.bootstrap import Weights, accuracy, interval, resample, whole, worst_accuracy
from stages.shared.errors import BadInput
from stages.shared.params import Section, load
from stages.shared.tables import TEXT, read_classes, read_manifest

DATA, METRICS = Path("data"), Path("metrics")
BASELINE = "baseline"
ARM_NAME = re.compile(r"[A-Za-z0-9_-]+")  # a word of a command, of a parameter's path and of a file's name
PER_CLASS_COLUMNS = ["class", "train_images"]
PREDICTION_COLUMNS = ["trial", "split", "key", "label", "predicted", "group"]


class Evaluate(Section):
    many: int = Field(ge=0)
    few: int = Field(ge=0)
    bootstrap: int = Field(ge=1)

    @model_validator(mode="after")
    def _apart(self) -> "Evaluate":
        if self.few > self.many:
            raise ValueError("few must not be above many; a class is many-shot above many, few-shot below few")
        return self


class Params(Section):
    evaluate: Evaluate
    arms: dict[str, dict[str, Any]]  # one leaf: what the arms do is the training stages' affair

    @field_validator("arms")
    @classmethod
    def _comparable(cls, arms: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """There is a baseline, and no name stands for two arms."""
        if BASELINE not in arms.get("real", {}):
            raise ValueError("real must hold the arm baseline, against which gains are measured")
        names = arm_names(arms)
        if odd := [name for name in names if not ARM_NAME.fullmatch(str(name)) or name in PER_CLASS_COLUMNS]:
            raise ValueError(f"{odd[0]!r} cannot be an arm's name; use letters, digits, - and _")
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} stands there twice; give each arm a name of its own")
        return arms


class Answers(NamedTuple):
    """One arm's answers on one split, in an order that all arms share: predictions are (trials, images)."""

    keys: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    predicted: np.ndarray

    @property
    def correct(self) -> np.ndarray:
        return (self.predicted == self.labels).astype(float)


def arm_names(arms: dict[str, dict[str, Any]]) -> list[str]:
    """In the order of params.yaml."""
    return [name for group in arms.values() for name in group]


def read_answers(arm: str) -> dict[str, Answers]:
    """Both splits of an arm's predictions; `ood` is missing where the dataset has none."""
    path = DATA / "train" / arm / "predictions.csv"
    if not path.is_file():
        raise BadInput(f"{path}: there is no such file; run `dvc repro` first")
    rows = pd.read_csv(path, dtype=TEXT, keep_default_na=False)  # type: ignore[arg-type]
    if list(rows.columns) != PREDICTION_COLUMNS:
        raise BadInput(
            f"{path}: columns must be {', '.join(PREDICTION_COLUMNS)}; train the arm anew with `dvc repro -f`"
        )
    return {str(split): _order(part, path) for split, part in rows.groupby("split")}


def _order(rows: pd.DataFrame, path: Path) -> Answers:
    predicted = rows.pivot(index="trial", columns="key", values="predicted")
    if predicted.isna().any(axis=None):
        raise BadInput(f"{path}: not every trial has answered every image; train the arm anew with `dvc repro -f`")
    images = rows.drop_duplicates("key").set_index("key").loc[predicted.columns]
    return Answers(
        images.index.to_numpy(str), images["label"].to_numpy(), images["group"].to_numpy(str), predicted.to_numpy()
    )


def check_paired(answers: dict[str, dict[str, Answers]]) -> None:
    """Raises BadInput where two arms answered different questions."""
    for arm, splits in answers.items():
        for split, baseline in answers[BASELINE].items():
            theirs = splits.get(split)
            if theirs is None or len(theirs.predicted) != len(baseline.predicted) or not same_images(theirs, baseline):
                raise BadInput(
                    f"{DATA}/train/{arm}/predictions.csv: other images or trials than {BASELINE}'s; train both anew"
                )


def same_images(one: Answers, other: Answers) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def check_orphans(arms: list[str]) -> None:
    """Raises BadInput for what a removed arm left: DVC would hash it into this stage's inputs."""
    left = [path for path in (DATA / "train").iterdir() if path.name not in arms]
    left += [path for path in (METRICS / "train").iterdir() if path.stem not in arms]
    if left:
        raise BadInput(f"{min(left)}: belongs to no arm of params.yaml; remove it, or add its arm again")


def shot_groups(counts: np.ndarray, params: Evaluate) -> dict[str, np.ndarray]:
    """Which classes are many-, medium- and few-shot, by their number of training images; empty groups are left out."""
    many, few = counts > params.many, counts < params.few
    groups = {"many": many, "medium": ~many & ~few, "few": few}
    return {name: np.flatnonzero(members) for name, members in groups.items() if members.any()}


def percent(share: float) -> float:
    return round(100 * float(share), 2) + 0.0  # + 0.0 turns -0.0 into 0.0


def deviation(shares: np.ndarray) -> float:
    """Sample standard deviation over trials; 0 for a single one."""
    return float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0


def measure_arm(answers: dict[str, Answers], shots: dict[str, np.ndarray]) -> dict[str, Any]:
    """One entry of `arms` in metrics/evaluate.json.

    many, medium and few are means of the classes' accuracies, as in the official code (train_hub_imb.py).
    """
    test = answers["test"]
    trials = test.correct.mean(1)
    result: dict[str, Any] = {"top1": percent(trials.mean()), "top1_std": percent(deviation(trials))}
    for name, members in shots.items():
        tested = np.intersect1d(members, test.labels)
        if len(tested):
            result[name] = percent(np.mean([test.correct[:, test.labels == label].mean() for label in tested]))
    if "ood" in answers:
        result["waterbird"] = measure_groups(answers["ood"])
    return result


def measure_groups(ood: Answers) -> dict[str, Any]:
    """Accuracy by Waterbird group (Sec. 4.4, Table 4), over all images, and of the worst group."""
    groups = {str(group): percent(ood.correct[:, ood.groups == group].mean()) for group in np.unique(ood.groups)}
    return {"average": percent(ood.correct.mean()), "worst": min(groups.values()), "groups": groups}


def measure_gain(arm: dict[str, Answers], base: dict[str, Answers], weights: dict[str, Weights]) -> dict[str, Any]:
    """What an arm adds to the baseline, in points, paired by trial and image."""
    ones = {split: whole(*part.predicted.shape) for split, part in base.items()}

    def top1(answers: dict[str, Answers], use: dict[str, Weights]) -> np.ndarray:
        return accuracy(answers["test"].correct, use["test"])

    def worst(answers: dict[str, Answers], use: dict[str, Weights]) -> np.ndarray:
        return worst_accuracy(answers["ood"].correct, answers["ood"].groups, use["ood"])

    result: dict[str, Any] = {}
    for name, statistic in {"top1": top1, **({"waterbird_worst": worst} if "ood" in base else {})}.items():
        result[name] = percent((statistic(arm, ones) - statistic(base, ones))[0])
        ends = interval(statistic(arm, weights) - statistic(base, weights))
        result[f"{name}_ci"] = [percent(end) for end in ends]
    return result


def evaluate(answers: dict[str, dict[str, Answers]], counts: np.ndarray, params: Evaluate) -> dict[str, Any]:
    """The content of metrics/evaluate.json."""
    base, shots = answers[BASELINE], shot_groups(counts, params)
    weights = {split: resample(len(part.predicted), part.groups, params.bootstrap) for split, part in base.items()}
    return {
        "arms": {arm: measure_arm(splits, shots) for arm, splits in answers.items()},
        "gain": {arm: measure_gain(splits, base, weights) for arm, splits in answers.items() if arm != BASELINE},
    }


def per_class(answers: dict[str, dict[str, Answers]], names: pd.Series, counts: np.ndarray) -> pd.DataFrame:
    """One row a class: its number of training images and each arm's top-1; empty where it has no test image."""
    table = pd.DataFrame(dict(zip(PER_CLASS_COLUMNS, (names, counts), strict=True)))
    for arm, splits in answers.items():
        test = splits["test"]
        shares = pd.Series(test.correct.mean(0)).groupby(test.labels).mean()
        table[arm] = (100 * shares).round(2).reindex(range(len(names))).to_numpy()
    return table


def curves(arms: list[str]) -> pd.DataFrame:
    """Training curves, the mean over the trials, all arms below each other."""
    parts = []
    for arm in arms:
        history = pd.read_csv(METRICS / "train" / f"{arm}.csv")
        means = history.groupby("epoch", as_index=False)[["loss", "accuracy"]].mean().round(4)
        parts.append(means.assign(arm=arm)[["arm", "epoch", "loss", "accuracy"]])
    return pd.concat(parts)


def group_bars(result: dict[str, Any]) -> pd.DataFrame:
    """Accuracy by arm and part of the test data: all of it, shot groups, Waterbird groups."""
    rows = []
    for arm, measured in result["arms"].items():
        parts = {"test": measured["top1"]} | {
            part: measured[part] for part in ("many", "medium", "few") if part in measured
        }
        parts |= measured.get("waterbird", {}).get("groups", {})
        rows += [{"arm": arm, "part": part, "accuracy": value} for part, value in parts.items()]
    return pd.DataFrame(rows)


def confusion(answers: dict[str, dict[str, Answers]], names: pd.Series) -> pd.DataFrame:
    """What each class's test images are taken for, in percent of its answers over all trials.

    The diagonal comes first, so that both axes of a plot list the classes in their order; other zeros are left out.
    """
    parts = []
    for arm, splits in answers.items():
        test = splits["test"]
        matrix = np.zeros((len(names), len(names)))
        np.add.at(matrix, (np.broadcast_to(test.labels, test.predicted.shape), test.predicted), 1)
        shares = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
        others = np.nonzero(shares * (1 - np.eye(len(names))))
        actual, predicted = (np.concatenate([np.arange(len(names)), other]) for other in others)
        part = {"arm": arm, "actual": names.iloc[actual].array, "predicted": names.iloc[predicted].array}
        parts.append(pd.DataFrame(part | {"percent": shares[actual, predicted].round(2)}))
    return pd.concat(parts)


def main() -> None:
    params, classes = load(Params), read_classes(DATA / "download")
    labels = read_manifest(DATA / "subsample")["label"]
    counts = np.bincount(labels, minlength=len(classes))
    check_orphans(arm_names(params.arms))
    answers = {arm: read_answers(arm) for arm in arm_names(params.arms)}
    check_paired(answers)
    result = evaluate(answers, counts, params.evaluate)
    plots = METRICS / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    (METRICS / "evaluate.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    tables = {
        METRICS / "per_class.csv": per_class(answers, classes["name"], counts),
        plots / "curves.csv": curves(list(answers)),
        plots / "groups.csv": group_bars(result),
        plots / "confusion.csv": confusion(answers, classes["name"]),
    }
    for path, table in tables.items():
        table.to_csv(path, index=False, lineterminator="\n")


if __name__ == "__main__":
    main()

"""The numbers of metrics/evaluate.json on answers small enough to count by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import evaluate
from stages.evaluate import Answers, Evaluate
from stages.shared.errors import BadInput
from stages.shared.params import pick
from stages.shared.tables import write_classes, write_manifest

GROUPS = ["landbird_land", "landbird_water", "waterbird_land", "waterbird_water"]
TREE: dict[str, Any] = {
    "evaluate": {"many": 10, "few": 5, "bootstrap": 200},
    "arms": {"real": {"baseline": {}}, "synthetic": {"diffmix": {"p": 0.5}}},
}
TEST = Answers(
    keys=np.arange(4).astype(str),
    labels=np.array([0, 0, 1, 2]),
    groups=np.array([""] * 4),
    predicted=np.array([[0, 0, 1, 1], [0, 1, 0, 2]]),  # correct: 1 1 1 0 and 1 0 0 1
)
OOD = Answers(
    keys=np.arange(8).astype(str),
    labels=np.array([0, 0, 1, 1, 2, 2, 2, 2]),
    groups=np.repeat(GROUPS, 2),
    predicted=np.array([[0, 0, 1, 0, 0, 0, 2, 0], [0, 0, 1, 1, 0, 2, 0, 0]]),  # groups: 4/4, 3/4, 1/4, 1/4
)
COUNTS = np.array([11, 10, 4])
OPTIONS = Evaluate(many=10, few=5, bootstrap=200)


def flip(answers: Answers, wrong_to_right: bool) -> Answers:
    """The same, all right or all wrong."""
    labels = np.broadcast_to(answers.labels, answers.predicted.shape)
    return answers._replace(predicted=labels if wrong_to_right else labels + 1)


@pytest.mark.parametrize(
    ("count", "group"), [(4, "few"), (5, "medium"), (10, "medium"), (11, "many")], ids=["few", "5", "10", "many"]
)
def test_thresholds_of_shot_groups_are_exclusive(count, group):
    assert list(evaluate.shot_groups(np.array([count]), OPTIONS)) == [group]


def test_an_arm_by_hand():
    assert evaluate.measure_arm({"test": TEST, "ood": OOD}, evaluate.shot_groups(COUNTS, OPTIONS)) == {
        "top1": 62.5,  # trials 75 and 50
        "top1_std": 17.68,  # 25 / sqrt(2)
        "many": 75.0,
        "medium": 50.0,
        "few": 50.0,
        "waterbird": {
            "average": 56.25,
            "worst": 25.0,
            "groups": dict(zip(GROUPS, [100.0, 75.0, 25.0, 25.0], strict=True)),
        },
    }


def test_one_trial_has_no_deviation():
    single = TEST._replace(predicted=TEST.predicted[:1])
    assert evaluate.measure_arm({"test": single}, {})["top1_std"] == 0


def test_without_ood_and_without_shot_groups_their_keys_are_absent():
    result = evaluate.evaluate({"baseline": {"test": TEST}, "other": {"test": TEST}}, np.array([7, 7, 7]), OPTIONS)
    assert set(result["arms"]["other"]) == {"top1", "top1_std", "medium"}
    assert set(result["gain"]["other"]) == {"top1", "top1_ci"}


def test_identical_arms_gain_exactly_nothing():
    result = evaluate.evaluate(
        {"baseline": {"test": TEST, "ood": OOD}, "twin": {"test": TEST, "ood": OOD}}, COUNTS, OPTIONS
    )
    assert result["gain"] == {
        "twin": {"top1": 0.0, "top1_ci": [0.0, 0.0], "waterbird_worst": 0.0, "waterbird_worst_ci": [0.0, 0.0]}
    }


def test_from_all_wrong_to_all_right_is_a_hundred_points_in_every_resample():
    arms = {
        arm: {"test": flip(TEST, right), "ood": flip(OOD, right)}
        for arm, right in (("baseline", False), ("ideal", True))
    }
    gain = evaluate.evaluate(arms, COUNTS, OPTIONS)["gain"]["ideal"]
    assert gain == {
        "top1": 100.0, "top1_ci": [100.0, 100.0], "waterbird_worst": 100.0, "waterbird_worst_ci": [100.0, 100.0],
    }  # fmt: skip


def test_gains_are_paired_by_image():
    """Right on one image more, out of 400: unpaired, the interval would reach some seven points either way."""
    labels = np.arange(400) % 2
    base = Answers(np.arange(400).astype(str), labels, np.full(400, ""), np.zeros((1, 400), int))
    better = base.predicted.copy()
    better[0, 1] = 1
    arms = {"baseline": {"test": base}, "better": {"test": base._replace(predicted=better)}}
    gain = evaluate.evaluate(arms, COUNTS[:2], OPTIONS)["gain"]["better"]
    assert gain["top1"] == 0.25
    assert gain["top1_ci"][0] == 0
    assert gain["top1_ci"][1] <= 1


def test_shot_groups_are_means_over_classes_not_images():
    """Classes 0 and 1 are both medium: 3 of 4 of class 0's answers are right, and 1 of 2 of class 1's."""
    result = evaluate.measure_arm({"test": TEST}, evaluate.shot_groups(np.array([7, 7, 4]), OPTIONS))
    assert result["medium"] == 62.5


def test_arms_with_other_images_are_not_compared():
    other = TEST._replace(keys=np.array(["0", "1", "2", "9"]))
    with pytest.raises(SystemExit, match=r"data/train/other/predictions.csv: other images"):
        evaluate.check_paired({"baseline": {"test": TEST}, "other": {"test": other}})


def test_per_class_by_hand():
    table = evaluate.per_class(
        {"baseline": {"test": TEST}}, pd.Series(["Gull", "Tern", "Auk", "Unseen"]), np.array([3, 2, 1, 1])
    )
    assert table.to_csv(index=False).splitlines() == [
        "class,train_images,baseline", "Gull,3,75.0", "Tern,2,50.0", "Auk,1,50.0", "Unseen,1,",
    ]  # fmt: skip


def test_confusion_by_hand():
    """The diagonal first, in the classes' order."""
    table = evaluate.confusion({"baseline": {"test": TEST}}, pd.Series(["Gull", "Tern", "Auk"]))
    assert table.to_numpy().tolist() == [
        ["baseline", "Gull", "Gull", 75.0],
        ["baseline", "Tern", "Tern", 50.0],
        ["baseline", "Auk", "Auk", 50.0],
        ["baseline", "Gull", "Tern", 25.0],
        ["baseline", "Tern", "Gull", 50.0],
        ["baseline", "Auk", "Tern", 50.0],
    ]


def write_predictions(arm: str, answers: dict[str, Answers]) -> None:
    parts = []
    for split, part in answers.items():
        for trial, predicted in enumerate(part.predicted):
            columns = {"trial": trial, "split": split, "key": [f"{row:08d}" for row in range(len(part.labels))]}
            parts.append(pd.DataFrame(columns | {"label": part.labels, "predicted": predicted, "group": part.groups}))
    Path("data/train", arm).mkdir(parents=True)
    pd.concat(parts).to_csv(f"data/train/{arm}/predictions.csv", index=False)
    history = pd.DataFrame(
        {"trial": [0, 1], "epoch": 0, "loss": [1.0, 2.0], "accuracy": [50.0, 60.0], "learning_rate": 0.1}
    )
    Path("metrics/train").mkdir(parents=True, exist_ok=True)
    history.to_csv(f"metrics/train/{arm}.csv", index=False)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(TREE))
    for folder in ("data/download", "data/subsample"):
        Path(folder).mkdir(parents=True)
    write_classes(Path("data/download"), ["NA", "Tern, Little", "Küken"], "bird")
    labels = np.repeat(range(3), COUNTS)
    rows = pd.DataFrame({"key": [f"{row:08d}" for row in range(len(labels))], "shard": "", "offset": 0, "size": 0})
    write_manifest(Path("data/subsample"), rows.assign(label=labels))
    write_predictions("baseline", {"test": TEST, "ood": OOD})
    write_predictions("diffmix", {"test": flip(TEST, True), "ood": OOD})
    return tmp_path


def test_writes_the_contracts_files(world):
    evaluate.main()
    text = Path("metrics/evaluate.json").read_text()
    result = json.loads(text)
    assert text == json.dumps(result, indent=2, sort_keys=True) + "\n"
    assert set(result["arms"]) == {"baseline", "diffmix"}
    assert result["arms"]["baseline"]["waterbird"]["groups"]["landbird_water"] == 75.0
    assert result["gain"]["diffmix"]["top1"] == 37.5
    per_class = pd.read_csv("metrics/per_class.csv", keep_default_na=False)
    assert per_class["class"].tolist() == ["NA", "Tern, Little", "Küken"]
    assert Path("metrics/plots/curves.csv").read_text().splitlines() == [
        "arm,epoch,loss,accuracy", "baseline,0,1.5,55.0", "diffmix,0,1.5,55.0",
    ]  # fmt: skip
    groups = pd.read_csv("metrics/plots/groups.csv").set_index(["arm", "part"])["accuracy"]
    assert groups["diffmix", "test"] == 100
    assert groups["baseline", "waterbird_land"] == 25


def test_two_runs_write_equal_bytes(world):
    evaluate.main()
    files = sorted(Path("metrics").rglob("*.*"))
    first = [file.read_bytes() for file in files]
    evaluate.main()
    assert [file.read_bytes() for file in files] == first


def test_refuses_arms_that_answered_different_images(world):
    rows = pd.read_csv("data/train/diffmix/predictions.csv", dtype={"key": str})
    rows[rows["key"] != "00000000"].to_csv("data/train/diffmix/predictions.csv", index=False)
    with pytest.raises(BadInput, match=r"diffmix/predictions\.csv: other images or trials"):
        evaluate.main()


def test_refuses_a_trial_that_misses_an_image(world):
    rows = pd.read_csv("data/train/diffmix/predictions.csv", dtype={"key": str})
    rows.iloc[1:].to_csv("data/train/diffmix/predictions.csv", index=False)
    with pytest.raises(BadInput, match="not every trial"):
        evaluate.main()


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"real": {"cutmix": {}}, "synthetic": {}}, "must hold the arm baseline"),
        ({"real": {"baseline": {}, "mine": {}}, "synthetic": {"mine": {}}}, "mine stands there twice"),
    ],
)
def test_refuses_arms_that_cannot_be_compared(arms, message):
    with pytest.raises(BadInput, match=rf"arms: .*{message}"):
        pick(evaluate.Params, TREE | {"arms": arms})


def test_refuses_thresholds_that_overlap():
    with pytest.raises(BadInput, match="few must not be above many"):
        pick(evaluate.Params, TREE | {"evaluate": {"many": 3, "few": 5, "bootstrap": 10}})

"""The numbers of metrics/evaluate.json on answers small enough to count by hand."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages import evaluate
from stages.shared.errors import BadInput
from stages.shared.manifests import write_classes
from stages.shared.measuring.accuracy import Answers, draw_weights, shot_groups
from stages.shared.params import pick
from stages.shared.tables import write_csv
from tests.support.answers import COUNTS, OOD, TEST, flip

TREE: dict[str, Any] = {
    "evaluate": {"many": 10, "few": 5, "bootstrap": 200},
    "arms": {"real": {"baseline": {}}, "synthetic": {"diffmix": {"p": 0.5}}},
}


def test_without_ood_and_without_shot_groups_their_keys_are_absent():
    answers = {"baseline": {"test": TEST}, "other": {"test": TEST}}

    shots = shot_groups(np.array([7, 7, 7]), many=10, few=5)
    result = evaluate.evaluate(answers, shots, draw_weights(answers["baseline"], 200))

    assert set(result["arms"]["other"]) == {"top1", "top1_std", "medium"}
    assert set(result["gain"]["other"]) == {"top1", "top1_ci", "medium", "medium_ci"}
    assert evaluate.headline(result)["gain"] == {"other": {"top1": 0.0}}


def test_arms_with_other_images_are_not_compared():
    other = TEST._replace(keys=np.array(["0", "1", "2", "9"]))
    with pytest.raises(SystemExit, match=r"data/train/other/predictions.csv: other images"):
        evaluate.check_paired({"baseline": {"test": TEST}, "other": {"test": other}})


def test_per_class_by_hand():
    names = pd.Series(["Gull", "Tern", "Auk", "Unseen"])

    table = evaluate.per_class({"baseline": {"test": TEST}}, names, np.array([3, 2, 1, 1]))

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
            columns = {
                "trial": trial,
                "split": split,
                "key": [f"{row:08d}" for row in range(len(part.labels))],
                "label": part.labels,
                "predicted": predicted,
                "group": part.groups,
            }
            parts.append(pd.DataFrame(columns))

    Path("data/train", arm).mkdir(parents=True)
    pd.concat(parts).to_csv(f"data/train/{arm}/predictions.csv", index=False)


def write_curves(arm: str) -> None:
    columns = {
        "trial": [0, 1],
        "epoch": 0,
        "loss": [1.0, 2.0],
        "accuracy": [50.0, 60.0],
        "learning_rate": 0.1,
    }
    pd.DataFrame(columns).to_csv(f"data/train/{arm}/curves.csv", index=False)


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """What evaluate reads: three classes, and the arms baseline and diffmix."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(yaml.safe_dump(TREE))
    for folder in ("data/download", "data/subsample"):
        Path(folder).mkdir(parents=True)
    write_classes(Path("data/download"), ["NA", "Tern, Little", "Küken"], "bird")

    labels = np.repeat(range(3), COUNTS)
    columns = {
        "key": [f"{row:08d}" for row in range(len(labels))],
        "shard": "shard-00000.tar",
        "offset": 0,
        "size": 1,
        "label": labels,
    }
    write_csv(Path("data/subsample") / "manifest.csv", pd.DataFrame(columns))

    write_predictions("baseline", {"test": TEST, "ood": OOD})
    write_predictions("diffmix", {"test": flip(TEST, True), "ood": OOD})
    for arm in ("baseline", "diffmix"):
        write_curves(arm)

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
        "arm,epoch,loss,accuracy,loss_min,loss_max,accuracy_min,accuracy_max,trials",
        "baseline,0,1.5,55.0,1.0,2.0,50.0,60.0,2",
        "diffmix,0,1.5,55.0,1.0,2.0,50.0,60.0,2",
    ]

    assert json.loads(Path("metrics/headline.json").read_text()) == {
        "arms": {
            "baseline": {"top1": 62.5, "few": 50.0, "worst": 25.0},
            "diffmix": {"top1": 100.0, "few": 100.0, "worst": 25.0},
        },
        "gain": {"diffmix": {"top1": 37.5, "few": 50.0, "worst": 0.0}},
    }

    groups = pd.read_csv("metrics/plots/groups.csv").set_index(["arm", "part"])
    assert groups.loc[("diffmix", "test")].tolist() == [100, 100, 100]
    accuracy, low, high = groups.loc[("baseline", "waterbird_land")]
    assert accuracy == 25
    assert 0 <= low < 25 < high <= 100


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


def test_refuses_what_a_removed_arm_left(world):
    Path("data/train/removed").mkdir()
    line = r"data/train/removed: no arm of params.yaml's; `rm -r data/train/removed`"
    with pytest.raises(BadInput, match=line):
        evaluate.main()


def test_refuses_an_arm_without_curves(world):
    Path("data/train/diffmix/curves.csv").unlink()
    with pytest.raises(BadInput, match=r"data/train/diffmix/curves\.csv: there is no such file"):
        evaluate.main()


def test_refuses_curves_with_other_columns(world):
    Path("data/train/diffmix/curves.csv").write_text("epoch,loss\n0,1.0\n")
    with pytest.raises(BadInput, match=r"diffmix/curves\.csv: columns must be trial, epoch, loss"):
        evaluate.main()


def test_reads_nothing_under_metrics(world):
    evaluate.main()
    before = Path("metrics/evaluate.json").read_bytes()

    stray = Path("metrics/train/removed.csv")
    stray.parent.mkdir(parents=True)
    stray.write_text("none of this stage's business")
    evaluate.main()

    assert Path("metrics/evaluate.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"real": {"cutmix": {}}, "synthetic": {}}, "must hold the arm baseline"),
        ({"real": {"baseline": {}, "mine": {}}, "synthetic": {"mine": {}}}, "mine appears twice"),
    ],
)
def test_refuses_arms_that_cannot_be_compared(arms, message):
    with pytest.raises(BadInput, match=rf"arms: .*{message}"):
        pick(evaluate.Params, TREE | {"arms": arms})


def test_refuses_thresholds_that_overlap():
    with pytest.raises(BadInput, match="few must not be above many"):
        pick(evaluate.Params, TREE | {"evaluate": {"many": 3, "few": 5, "bootstrap": 10}})

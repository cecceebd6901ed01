"""Measures of predictions small enough to count by hand."""

import io
from pathlib import Path

import numpy as np
import pytest

from stages.shared.errors import BadInput
from stages.shared.measuring.accuracy import (
    Answers,
    draw_weights,
    measure_arm,
    measure_gain,
    measure_parts,
    paired,
    read_answers,
    shot_groups,
)
from tests.support.answers import COUNTS, GROUPS, OOD, TEST, flip


@pytest.mark.parametrize(
    ("count", "group"),
    [(4, "few"), (5, "medium"), (10, "medium"), (11, "many")],
    ids=["few", "5", "10", "many"],
)
def test_thresholds_of_shot_groups_are_exclusive(count, group):
    assert list(shot_groups(np.array([count]), many=10, few=5)) == [group]


def test_an_arm_by_hand():
    found = measure_arm({"test": TEST, "ood": OOD}, shot_groups(COUNTS, many=10, few=5))

    assert found == {
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

    assert measure_arm({"test": single}, {})["top1_std"] == 0


def test_shot_groups_are_means_over_classes_not_images():
    """Classes 0 and 1 are both medium.

    3 of 4 of class 0's answers are right, and 1 of 2 of class 1's.
    """
    shots = shot_groups(np.array([7, 7, 4]), many=10, few=5)

    assert measure_arm({"test": TEST}, shots)["medium"] == 62.5


def gain(arm: dict[str, Answers], base: dict[str, Answers]) -> dict:
    return measure_gain(arm, base, shot_groups(COUNTS, many=10, few=5), draw_weights(base, 200))


def gains_of(points: float) -> dict:
    """A gain of so many points in every measure, and in every resample."""
    names = ("top1", "many", "medium", "few", "waterbird_worst")
    ends = {f"{name}_ci": [points, points] for name in names}
    return dict.fromkeys(names, points) | ends


def test_identical_arms_gain_exactly_nothing():
    twin = {"test": TEST, "ood": OOD}

    assert gain(twin, twin) == gains_of(0.0)


def test_from_all_wrong_to_all_right_is_a_hundred_points_in_every_resample():
    wrong, right = ({"test": flip(TEST, ideal), "ood": flip(OOD, ideal)} for ideal in (False, True))

    assert gain(right, wrong) == gains_of(100.0)


def test_gains_are_paired_by_image():
    """Right on one image more, out of 400.

    Unpaired, the interval would reach some seven points either way.
    """
    base = Answers(
        np.arange(400).astype(str), np.arange(400) % 2, np.full(400, ""), np.zeros((1, 400), int)
    )
    better = base.predicted.copy()
    better[0, 1] = 1

    result = gain({"test": base._replace(predicted=better)}, {"test": base})

    assert result["top1"] == 0.25
    assert result["top1_ci"][0] == 0
    assert result["top1_ci"][1] <= 1


def test_gains_of_shot_groups_are_differences_of_what_an_arm_has():
    """Classes 0, 1 and 2 are many, medium and few, with 2, 1 and 1 images."""
    better = flip(TEST, True)

    found = gain({"test": better}, {"test": TEST})

    shots = shot_groups(COUNTS, many=10, few=5)
    before, after = (measure_arm({"test": answers}, shots) for answers in (TEST, better))
    for name in ("many", "medium", "few"):
        assert found[name] == after[name] - before[name]
        low, high = found[f"{name}_ci"]
        assert low <= found[name] <= high


def test_the_parts_accuracies_are_those_of_the_arm_each_in_its_interval():
    splits = {"test": TEST, "ood": OOD}
    shots = shot_groups(COUNTS, many=10, few=5)

    parts = measure_parts(splits, shots, draw_weights(splits, 200))

    arm = measure_arm(splits, shots)
    expected = {"test": arm["top1"]} | {name: arm[name] for name in shots}
    expected |= arm["waterbird"]["groups"]
    assert dict(zip(parts["part"], parts["accuracy"], strict=True)) == expected
    assert (parts["low"] <= parts["accuracy"]).all()
    assert (parts["accuracy"] <= parts["high"]).all()


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"predicted": TEST.predicted + 1}, True),
        ({"predicted": TEST.predicted[:1]}, False),
        ({"keys": np.array(["0", "1", "2", "9"])}, False),
        ({"labels": np.array([0, 0, 1, 1])}, False),
    ],
    ids=["itself", "other answers", "fewer trials", "other images", "other labels"],
)
def test_a_pair_has_the_same_images_and_as_many_trials(change, same):
    assert paired(TEST, TEST._replace(**change)) is same


TEXT = """trial,split,key,label,predicted,group
1,test,007,2,2,
0,test,007,2,1,
0,test,NA,0,0,
1,test,NA,0,2,
0,ood,007,1,1,waterbird_land
1,ood,007,1,0,waterbird_land
"""


@pytest.mark.parametrize("opened", [True, False], ids=["file", "path"])
def test_reads_a_path_and_an_open_file_alike(opened, tmp_path):
    path = tmp_path / "predictions.csv"
    path.write_text(TEXT)

    answers = read_answers(io.StringIO(TEXT) if opened else path)

    assert set(answers) == {"test", "ood"}
    test = answers["test"]
    assert test.keys.tolist() == ["007", "NA"]
    assert test.labels.tolist() == [2, 0]
    assert test.predicted.tolist() == [[1, 0], [2, 2]]
    assert test.correct.tolist() == [[0, 1], [1, 0]]
    assert answers["ood"].groups.tolist() == ["waterbird_land"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1,test,NA,0,2,\n", "", "not every trial has answered every image"),
        (
            "1,test,NA,0,2,\n",
            "1,test,NA,0,2,\n1,test,NA,0,1,\n",
            "a trial has answered image 'NA' twice",
        ),
        ("predicted,group", "group,predicted", "columns must be trial, split"),
    ],
)
def test_a_broken_file_is_named_as_asked(old, new, message):
    with pytest.raises(BadInput, match=f"^HEAD~1's predictions: {message}"):
        read_answers(io.StringIO(TEXT.replace(old, new)), "HEAD~1's predictions")


def test_a_missing_file_is_named():
    with pytest.raises(BadInput, match=r"nowhere/predictions\.csv: there is no such file"):
        read_answers(Path("nowhere/predictions.csv"))

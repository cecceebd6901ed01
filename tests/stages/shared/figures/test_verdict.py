"""The report's first sentences, from numbers made by hand."""

from typing import Any

import pandas as pd
import pytest

from stages.shared.figures.verdict import (
    CHANGE,
    Verdict,
    judge_arm,
    list_mistakes,
    signed,
    sort_classes,
    tell_gain,
    tell_losers,
    tell_places,
)

ARMS: dict[str, Any] = {
    "baseline": {"top1": 89.63, "few": 78.07, "waterbird": {"worst": 44.17}},
    "diffmix": {"top1": 95.28, "few": 89.78, "waterbird": {"worst": 73.0}},
}
GAIN = {
    "diffmix": {
        "top1": 5.65, "few": 11.71, "waterbird_worst": 28.83,
        "top1_ci": [3.6, 7.5], "few_ci": [7.7, 15.5], "waterbird_worst_ci": [17.3, 39.4],
    }
}  # fmt: skip
CLASSES: list[dict[str, Any]] = [
    {"class": "Mallow", "train_images": 20, "baseline": 98.0, "diffmix": 99.0},
    {"class": "Quill", "train_images": 3, "baseline": 72.8, "diffmix": 53.9},
    {"class": "Pintle", "train_images": 5, "baseline": 92.8, "diffmix": 78.3},
    {"class": "unseen", "train_images": 5, "baseline": float("nan"), "diffmix": float("nan")},
]


def judge(
    arms: dict = ARMS, gain: dict = GAIN, classes: list = CLASSES, images: int = 300
) -> Verdict:
    return judge_arm("diffmix", arms, gain, classes, {row["class"]: images for row in classes})


def test_a_gain_comes_with_its_interval():
    assert tell_gain(judge(), "Diff-Mix") == (
        "Diff-Mix raises top-1 from 89.6 to 95.3 % (+5.7 points, 95 % interval +3.6 to +7.5)."
    )


def test_a_gain_is_the_measured_one_not_that_of_rounded_accuracies():
    arms = {"baseline": {"top1": 35.78}, "diffmix": {"top1": 36.33}}
    said = tell_gain(judge(arms, {"diffmix": {"top1": 0.56}}), "Diff-Mix")
    assert said == "Diff-Mix moves top-1 from 35.8 to 36.3 % (+0.6 points)."


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([-3.0, -1.0], "lowers top-1"),
        ([-1.0, 12.0], "−1.0 to +12.0, which leaves open whether it helps)."),
        (None, "moves top-1 from 89.6 to 95.3 % (+5.7 points)."),
    ],
)
def test_the_verb_is_the_intervals(interval, words):
    gain = {"diffmix": {"top1": 5.65, "top1_ci": interval}}
    assert words in tell_gain(judge(gain=gain), "Diff-Mix")


def test_few_shot_classes_and_the_worst_group_are_told():
    assert tell_places(judge().places) == (
        "Few-shot classes 78.1 → 89.8 (+11.7, +7.7 to +15.5), "
        "the worst Waterbird group 44.2 → 73.0 (+28.8, +17.3 to +39.4)."
    )


def test_a_dataset_without_them_says_nothing():
    arms = {"baseline": {"top1": 50.0}, "diffmix": {"top1": 60.0}}
    assert tell_places(judge(arms, {"diffmix": {"top1": 10.0}}).places) == ""


def test_who_loses_is_named_the_greatest_loss_first():
    assert tell_losers(judge()) == (
        "2 of 3 classes lose more than 10 points: Quill 72.8 → 53.9, Pintle 92.8 → 78.3."
    )


def test_nobody_loses():
    assert tell_losers(judge(classes=CLASSES[:1])) == (
        "None of 1 classes loses more than 10 points beyond what chance does with so many test "
        "images."
    )


def test_many_losers_are_counted():
    losers = [CLASSES[1] | {"class": f"Quill {number}"} for number in range(8)]
    said = tell_losers(judge(classes=losers))
    assert said.startswith("8 of 8 classes lose")
    assert said.endswith("Quill 4 72.8 → 53.9, and 3 more.")


def test_classes_are_sorted_by_their_change():
    rows = sort_classes(CLASSES, "diffmix")
    assert [row["class"] for row in rows] == ["Quill", "Pintle", "Mallow", "unseen"]
    assert rows[-1][CHANGE] is None


def test_a_loss_that_few_test_images_explain_is_none():
    """Quill's 18.9 points are 2 standard errors of 10 test images each: 43, and of 300: 8."""
    assert judge(images=10).losers == []
    assert [loser.title for loser in judge(images=300).losers] == ["Quill", "Pintle"]


@pytest.mark.parametrize("name", ["change", "class-change", "actual"])
def test_an_arm_may_be_called_like_a_column(name):
    rows = [{"class": "Quill", "train_images": 3, "baseline": 70.0, name: 60.0}]
    (row,) = sort_classes(rows, name)
    assert (row[name], row[CHANGE]) == (60.0, -10.0)


@pytest.mark.parametrize(
    ("value", "text"), [(0.04, "0.0"), (-0.04, "0.0"), (0.06, "+0.1"), (-10.0, "−10.0")]
)
def test_zero_has_no_sign(value, text):
    assert signed(value) == text


def test_the_commonest_mistakes_of_either_come_first():
    lines = [
        ("baseline", "Quill", "Quill", 60.0),
        ("baseline", "Quill", "Mallow", 40.0),
        ("diffmix", "Pintle", "Quill", 70.0),
        ("baseline", "Pintle", "Quill", 10.0),
        ("cutmix", "Pintle", "Mallow", 99.0),
    ]
    confusion = pd.DataFrame(lines, columns=["arm", "actual", "predicted", "percent"])
    assert list_mistakes("diffmix", confusion, dict.fromkeys(["Quill", "Pintle"], 10)) == [
        {"actual": "Pintle", "predicted": "Quill", "before": 10.0, "after": 70.0},
        {"actual": "Quill", "predicted": "Mallow", "before": 40.0, "after": 0.0},
    ]


def test_classifiers_without_mistakes_have_none_listed():
    perfect = pd.DataFrame([("baseline", "Quill", "Quill", 100.0)])
    perfect.columns = ["arm", "actual", "predicted", "percent"]
    assert list_mistakes("diffmix", perfect, {"Quill": 10}) == []


def test_mistakes_of_classes_with_very_few_test_images_are_not_listed():
    lines = [("baseline", "Quill", "Mallow", 100.0), ("baseline", "Pintle", "Mallow", 20.0)]
    confusion = pd.DataFrame(lines, columns=["arm", "actual", "predicted", "percent"])
    (listed,) = list_mistakes("diffmix", confusion, {"Quill": 1, "Pintle": 30})
    assert listed["actual"] == "Pintle"

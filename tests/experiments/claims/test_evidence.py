"""Differences between experiments against hand-made cases and stages/evaluate.py's gains."""

import numpy as np
import pandas as pd
import pytest

from experiments.claims.evidence import Side, Unmeasurable, compare, compare_images, compare_kept
from stages.shared.errors import BadInput
from stages.shared.measuring.accuracy import Answers, draw_weights, measure_gain

GROUPS = ["landbird_land", "landbird_water", "waterbird_land", "waterbird_water"]
SHOTS = {"many": np.array([0]), "few": np.array([1, 2])}


def answers(shares: dict[str, float], seed: int) -> Answers:
    """Random answers of three trials to forty images a group, right with the group's share.

    The images are of classes 0, 1 and 2 in turn.
    """
    random = np.random.default_rng(seed)
    groups = np.repeat(list(shares), 40)
    keys = np.arange(len(groups)).astype(str)
    labels = np.arange(len(groups)) % 3

    right = random.random((3, len(groups))) < np.repeat(list(shares.values()), 40)
    return Answers(keys, labels, groups, np.where(right, labels, labels + 1))


def side(test: float, ood: float, seed: int) -> Side:
    """Random answers, so many of them right on the test and on the Waterbird images."""
    splits = {
        "test": answers({"": test}, seed),
        "ood": answers(dict.fromkeys(GROUPS, ood), seed + 100),
    }
    return Side(splits, SHOTS)


def exact(right: dict[int, int]) -> Side:
    """One trial on ten test images of each class, of which so many are right."""
    labels = np.repeat(list(right), 10)
    keys = np.arange(len(labels)).astype(str)
    groups = np.full(len(labels), "")

    correct = np.concatenate([np.arange(10) < number for number in right.values()])
    predicted = np.where(correct, labels, 9)[None]
    return Side({"test": Answers(keys, labels, groups, predicted)}, SHOTS)


@pytest.mark.parametrize("measure", ["top1", "waterbird_worst"])
def test_a_difference_and_its_interval_are_those_of_evaluates_gain(measure):
    arm = side(0.8, 0.6, 1)
    base = side(0.6, 0.5, 2)
    gain = measure_gain(arm.splits, base.splits, draw_weights(base.splits, 500))

    found = compare([arm], [base], measure, [], 500)
    assert found == (gain[measure], *gain[f"{measure}_ci"])


def test_top1_by_hand():
    found = compare([exact({0: 8, 1: 6, 2: 4})], [exact({0: 5, 1: 5, 2: 5})], "top1", [], 50)
    assert found.value == 10.0  # 18 - 15 of 30


@pytest.mark.parametrize(
    ("measure", "beyond", "expected"),
    [
        ("few", [], 20.0),  # the mean of its classes: (60 + 40) / 2 - (50 + 10) / 2
        ("few", ["many"], -10.0),  # a difference of differences: 20 in few less 30 in many
        ("top1", ["many", "few"], -1.67),  # less the mean of several: 23.33 - (30 + 20) / 2
    ],
)
def test_means_of_classes_and_what_is_beyond_other_measures_by_hand(measure, beyond, expected):
    better = exact({0: 8, 1: 6, 2: 4})
    worse = exact({0: 5, 1: 5, 2: 1})
    assert compare([better], [worse], measure, beyond, 50).value == expected


def test_several_rows_count_by_their_mean():
    rows = [exact({0: 10, 1: 10, 2: 10}), exact({0: 4, 1: 4, 2: 4})]
    assert compare(rows, [exact({0: 5, 1: 5, 2: 5})], "top1", [], 50).value == 20.0


def test_a_waterbird_group_by_hand():
    better = side(0.5, 0.9, 3)
    worse = side(0.5, 0.4, 4)
    members = better.splits["ood"].groups == "waterbird_land"
    shares = [100 * each.splits["ood"].correct[:, members].mean() for each in (better, worse)]

    found = compare([better], [worse], "waterbird_land", [], 50)
    assert found.value == pytest.approx(shares[0] - shares[1], abs=0.01)


def test_identical_rows_differ_by_nothing():
    assert compare([side(0.7, 0.5, 5)], [side(0.7, 0.5, 5)], "top1", [], 100) == (0.0, 0.0, 0.0)


def test_rows_with_other_test_images_are_refused():
    with pytest.raises(BadInput, match="other test images or trials"):
        compare([exact({0: 1, 1: 1, 2: 1})], [exact({0: 1, 1: 1})], "top1", [], 10)


def test_an_unknown_measure_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="'fewest' is none of top1, many, medium, few"):
        compare([exact({0: 1, 1: 1, 2: 1})], [exact({0: 1, 1: 1, 2: 1})], "fewest", [], 10)


def image_table(values: list[float]) -> pd.DataFrame:
    """Images by their key, all kept, with these values of `faithful`."""
    keys = [f"{number:08d}" for number in range(len(values))]
    return pd.DataFrame({"key": keys, "kept": 1, "faithful": values})


def test_images_are_paired_by_their_key():
    one = image_table([1, 0, 1, 0])
    assert compare_images([one], [one.iloc[::-1]], "faithful", 100) == (0.0, 0.0, 0.0)


def test_images_without_a_value_on_either_side_do_not_count():
    better = image_table([1, np.nan, 1])
    worse = image_table([0, 0, np.nan])
    assert compare_images([better], [worse], "faithful", 100).value == 100.0


def make_cells(cells: dict[tuple[float, int], tuple[int, int]]) -> pd.DataFrame:
    """Images by strength and whether they were kept: so many, of which so many are faithful."""
    rows = []
    for (strength, kept), (size, right) in cells.items():
        rows += [(strength, kept, int(number < right)) for number in range(size)]

    return pd.DataFrame(rows, columns=["strength", "kept", "faithful"])


def test_kept_images_against_dropped_ones_by_hand():
    cells = {(0.5, 1): (4, 2), (0.5, 0): (1, 0), (0.9, 1): (2, 2), (0.9, 0): (3, 2)}
    found = compare_kept(make_cells(cells), "faithful", 500)
    assert found.value == 37.5  # 1/4 * (2/4 - 0) + 3/4 * (2/2 - 2/3)
    assert found.low < 37.5 < found.high


def test_strengths_are_not_pooled():
    """Pooled, the kept are worse, 13 of 25 against 17 of 25.

    At either strength they are better by 20 points.
    """
    cells = {(0.3, 1): (20, 8), (0.3, 0): (5, 1), (0.9, 1): (5, 5), (0.9, 0): (20, 16)}
    assert compare_kept(make_cells(cells), "faithful", 50).value == 20.0


def test_a_strength_of_which_none_was_dropped_does_not_count():
    cells = {(0.3, 1): (9, 9), (0.9, 1): (4, 2), (0.9, 0): (4, 3)}
    assert compare_kept(make_cells(cells), "faithful", 50).value == -25.0


def test_cells_are_resampled_by_themselves():
    """Cells of equal images leave nothing to chance.

    Drawn together, the cells' sizes would vary, and the mean with them.
    """
    cells = {(0.3, 1): (5, 5), (0.3, 0): (2, 0), (0.9, 1): (5, 5), (0.9, 0): (2, 2)}
    assert compare_kept(make_cells(cells), "faithful", 200) == (50.0, 50.0, 50.0)


def test_a_filter_that_dropped_nothing_gives_no_evidence():
    rows = make_cells({(0.5, 1): (4, 2), (0.9, 0): (2, 1)})
    with pytest.raises(Unmeasurable, match="at no strength are there kept and dropped images"):
        compare_kept(rows, "faithful", 10)


@pytest.mark.parametrize(
    "measure", ["medium", "waterbird_average", "waterbird_worst", "landbird_land"]
)
def test_what_the_dataset_has_no_images_for_is_unmeasurable(measure):
    rows = [exact({0: 1, 1: 1, 2: 1})]
    with pytest.raises(Unmeasurable, match=f"{measure}: the dataset has no images for it"):
        compare(rows, rows, measure, [], 10)


def test_a_column_without_values_is_unmeasurable():
    empty = image_table([np.nan, np.nan])
    with pytest.raises(Unmeasurable, match="no image has 'faithful'"):
        compare_images([empty], [empty], "faithful", 10)


def test_a_misspelt_column_is_refused_with_the_known_ones():
    table = image_table([1, 0])
    message = "'faithfull' of the images is none of key, kept, faithful"
    with pytest.raises(BadInput, match=message) as caught:
        compare_images([table], [table], "faithfull", 10)

    assert not isinstance(caught.value, Unmeasurable)

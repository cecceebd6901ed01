"""The choice of training rows: sizes, order, determinism."""

import numpy as np
import pandas as pd
import pytest

from stages.shared.errors import BadInput
from stages.shared.schemas.subsample import Subset
from stages.subsample import choose, class_sizes, count_images, wanted_sizes

COUNTS = np.array([20, 20, 20, 4])
ORDERED = pd.DataFrame({"label": np.repeat(range(4), COUNTS)})
ROWS = ORDERED.sample(frac=1, random_state=0).reset_index(drop=True)
ROWS.insert(0, "key", [f"{row:08d}" for row in range(len(ROWS))])


def subset(mode) -> Subset:
    return Subset(mode=mode, shots=5, imbalance_factor=10.0, exponent="n-2")


def test_full_keeps_every_row():
    assert choose(ROWS, wanted_sizes(COUNTS, subset("full")), seed=0).equals(ROWS)


def test_few_shot_takes_what_a_small_class_has():
    assert wanted_sizes(COUNTS, subset("few-shot")).tolist() == [5, 5, 5, 4]


def test_long_tail_of_equal_classes_follows_eq_4_by_their_index():
    sizes = wanted_sizes(np.full(12, 20), subset("long-tail"))
    assert sizes.tolist() == class_sizes(12, 20, 10, "n-2")


def test_long_tail_starts_at_the_mean_in_the_largest_class():
    # the mean is 16: 16, 16/sqrt(10) = 5.06, 1.6, 0.506 -> at least 1
    assert wanted_sizes(COUNTS, subset("long-tail")).tolist() == [16, 5, 1, 1]
    assert wanted_sizes(np.array([4, 20, 19, 21]), subset("long-tail")).tolist() == [1, 5, 1, 16]


def test_long_tail_takes_no_more_than_there_is():
    # the mean is 5: 5, 5/sqrt(10) = 1.58, 0.5, 0.158; with rho 1 all classes want 5
    flat = subset("long-tail").model_copy(update={"imbalance_factor": 1.0})
    assert wanted_sizes(np.array([8, 2, 7, 3]), flat).tolist() == [5, 2, 5, 3]


def test_chosen_rows_have_the_sizes_and_stand_in_their_old_order():
    chosen = choose(ROWS, np.array([3, 0, 20, 1]), seed=0)

    assert chosen["label"].value_counts().to_dict() == {0: 3, 2: 20, 3: 1}
    assert chosen["key"].is_monotonic_increasing
    assert ROWS.loc[chosen.index].equals(chosen)


def test_a_seed_repeats_and_another_chooses_otherwise():
    sizes = np.array([5, 5, 5, 2])
    assert choose(ROWS, sizes, 0).equals(choose(ROWS, sizes, 0))
    assert not choose(ROWS, sizes, 0).equals(choose(ROWS, sizes, 1))


def test_fewer_shots_are_part_of_more():
    few, more = (set(choose(ROWS, np.array([n] * 4), seed=0)["key"]) for n in (2, 4))
    assert few < more


def test_a_class_without_an_image_is_named():
    with pytest.raises(BadInput, match="class 'b, c' has no training image"):
        count_images(pd.DataFrame({"label": [0, 2, 0]}), ["a", "b, c", "d"])

    counts = count_images(pd.DataFrame({"label": [0, 2, 0, 1]}), ["a", "b", "c"])
    assert counts.tolist() == [2, 1, 1]


# classes, and training images a class
CUB = (200, 5994 / 200)
FLOWERS = (102, 4070 / 102)


@pytest.mark.parametrize(
    ("dataset", "exponent", "totals"),
    [
        (CUB, "n-2", [1242, 1427, 1798, 2238]),
        (CUB, "n-1", [1249, 1432, 1800, 2249]),
        (FLOWERS, "n-2", [847, 976, 1238, 1532]),
    ],
)
def test_long_tail_totals_are_those_of_table_10(dataset, exponent, totals):
    classes, mean = dataset
    tails = [class_sizes(classes, mean, rho, exponent) for rho in (100, 50, 20, 10)]

    assert [sum(sizes) for sizes in tails] == totals


def test_sizes_fall_from_the_mean_to_the_mean_over_rho():
    assert class_sizes(3, 100, 100, "n-1") == [100, 10, 1]
    assert class_sizes(4, 100, 100, "n-2") == [100, 10, 1, 1]  # the last is 0.1, and at least one


def test_no_imbalance_keeps_the_mean():
    assert class_sizes(5, 7.9, 1, "n-2") == [7] * 5


@pytest.mark.parametrize("exponent", ["n-1", "n-2"])
def test_one_and_two_classes_have_a_size(exponent):
    assert class_sizes(1, 20, 10, exponent) == [20]
    assert class_sizes(2, 20, 10, exponent) == [20, 2]

"""Eq. 4 against the sizes that the paper's Table 10 prints."""

import pytest

from stages.shared.longtail import class_sizes

CUB, FLOWERS = (200, 5994 / 200), (102, 4070 / 102)


@pytest.mark.parametrize(
    ("dataset", "exponent", "totals"),
    [
        (CUB, "n-2", [1242, 1427, 1798, 2238]),
        (CUB, "n-1", [1249, 1432, 1800, 2249]),
        (FLOWERS, "n-2", [847, 976, 1238, 1532]),
    ],
)
def test_totals_are_those_of_table_10(dataset, exponent, totals):
    classes, mean = dataset
    assert [sum(class_sizes(classes, mean, rho, exponent)) for rho in (100, 50, 20, 10)] == totals


def test_sizes_fall_from_the_mean_to_the_mean_over_rho():
    assert class_sizes(3, 100, 100, "n-1") == [100, 10, 1]
    assert class_sizes(4, 100, 100, "n-2") == [100, 10, 1, 1]  # the last is 0.1, and at least one


def test_no_imbalance_keeps_the_mean():
    assert class_sizes(5, 7.9, 1, "n-2") == [7] * 5


@pytest.mark.parametrize("exponent", ["n-1", "n-2"])
def test_one_and_two_classes_have_a_size(exponent):
    assert class_sizes(1, 20, 10, exponent) == [20]
    assert class_sizes(2, 20, 10, exponent) == [20, 2]

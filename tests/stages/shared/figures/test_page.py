"""How the report lists gains and writes numbers."""

import pytest

from stages.shared.figures.page import Axis, Gain, list_gains, number, signed, span_axis


def test_gains_by_measure_those_without_images_left_out():
    change = {"top1": 4.0, "top1_ci": [1.0, 7.0], "few": 15.0, "few_ci": [9.0, 20.0]}

    assert list_gains({"diffmix": change}) == {
        "top-1": [Gain("diffmix", 4.0, [1.0, 7.0])],
        "few-shot classes": [Gain("diffmix", 15.0, [9.0, 20.0])],
    }


def test_an_axis_holds_zero_and_all_intervals():
    axis = span_axis({"top-1": [Gain("a", -4.0, [-9.0, 1.0])], "few": [Gain("a", 16.0, None)]})
    assert (axis.low, axis.high) == (-10.0, 17.0)  # 4 % of 25 to either side


def test_places_are_percent_of_the_axis():
    assert Axis(-10.0, 30.0).place(0.0) == 25.0


def test_a_run_without_any_difference_still_has_an_axis():
    assert span_axis({"top-1": [Gain("a", 0.0, None)]}) == Axis(-1.0, 1.0)


@pytest.mark.parametrize(("value", "text"), [(-1.25, "−1.2"), (0.5, "+0.5"), (None, "–")])
def test_signed(value, text):
    assert signed(value, 1) == text


def test_a_missing_number_is_a_dash():
    assert (number(None), number(float("nan")), number(1.234)) == ("–", "–", "1.23")

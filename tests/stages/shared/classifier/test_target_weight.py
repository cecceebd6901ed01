"""s^gamma, with one gamma or with one for each strength."""

import numpy as np
import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from stages.shared.classifier.choices import Gamma
from stages.shared.classifier.target_weight import target_share, target_weight
from stages.shared.errors import BadInput

STRENGTHS = [0.9, 0.25, 0.81]


@pytest.mark.parametrize(("gamma", "weight"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.25)])
def test_one_gamma_is_the_exponent_of_all(gamma, weight):
    assert target_weight(0.25, gamma, STRENGTHS) == weight


def test_each_strength_has_its_own_gamma_in_ascending_order():
    weights = target_weight(np.array([0.81, 0.25, 0.9, 0.25]), [1.0, 0.5, 0.0], STRENGTHS)

    assert weights.tolist() == [pytest.approx(0.9), 0.25, 1.0, 0.25]
    assert target_weight(0.81, [1.0, 0.5, 0.0], STRENGTHS) == pytest.approx(0.9)


@pytest.mark.parametrize("gamma", [[0.5], [0.1, 0.2, 0.3, 0.4]])
def test_a_list_that_does_not_fit_names_the_strengths(gamma):
    count = len(gamma)
    message = rf"params.yaml: synth.gamma: has {count} numbers for 3 strengths \(0.25, 0.81, 0.9\)"

    with pytest.raises(BadInput, match=message):
        target_weight(np.array(STRENGTHS), gamma, STRENGTHS * 2)


def test_a_strength_without_an_image_keeps_its_gamma():
    rows = pd.DataFrame({"source_label": [0, 0], "target_label": [1, 1], "strength": [0.5, 0.9]})

    assert target_share(rows, [2.0, 7.0, 1.0], [0.5, 0.7, 0.9]).tolist() == [0.25, 0.9]


@pytest.mark.parametrize(
    ("source", "target", "expected"), [(0, 1, 0.25), (1, 1, 1.0), (-1, 1, 1.0)]
)
def test_only_another_classs_reference_shares_the_label(source, target, expected):
    rows = pd.DataFrame({"source_label": [source], "target_label": [target], "strength": [0.5]})

    assert target_share(rows, 2.0, [0.5]).tolist() == [expected]


@pytest.mark.parametrize("gamma", [0, 0.5, [0.1, 1]])
def test_numbers_and_lists_of_them_are_gammas(gamma):
    assert TypeAdapter(Gamma).validate_python(gamma) == gamma


@pytest.mark.parametrize(
    "gamma", [-0.1, "0.5", True, None, [], [0.5, -1], [0.5, "x"], float("inf"), {"a": 1}]
)
def test_anything_else_is_not(gamma):
    with pytest.raises(ValidationError, match="must be a number of at least 0, or a list"):
        TypeAdapter(Gamma).validate_python(gamma)

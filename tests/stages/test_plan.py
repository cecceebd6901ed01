"""plan draws what the paper says, and only that."""

import numpy as np
import pandas as pd
import pytest

from stages.plan import Choice, make_plan, nearest_classes, target_sizes
from stages.shared.pretrained.reference import Pretrained
from stages.shared.schemas.plan import Params, check_choice
from stages.shared.tables import Table
from tests.conftest import CLIP

ROWS = pd.DataFrame({"key": [f"{k:08d}" for k in range(10)], "label": [0] * 6 + [1] * 3 + [2]})


def plan(**changes) -> pd.DataFrame:
    """The plan of ROWS; what is no part of the method's choice changes the parameters."""
    mode = changes.pop("mode", "mix")
    strengths = changes.pop("strengths", [0.5, 0.7, 0.9])
    choice = Choice(mode, strengths, changes.pop("nearest", None))
    return make_plan(ROWS, 3, choice, params(**changes))


def params(**changes) -> Params:
    synth = {"multiplier": 20, "referable_classes": None, "pairing": "any"} | changes
    tree = {
        "seed": 0,
        "subset": {"mode": "full"},
        "synth": synth,
        "clip": {"id": CLIP, "revision": None},
    }

    return Params.model_validate(tree)


def test_a_long_tail_is_synthesised_with_the_class_order_reversed():
    assert target_sizes(np.array([6, 3, 1]), 5, reverse=True).tolist() == [5, 15, 30]
    assert target_sizes(np.array([1, 6, 3]), 5, reverse=True).tolist() == [30, 5, 15]


def test_other_subsets_are_expanded_class_by_class():
    assert target_sizes(np.array([6, 3, 1]), 5, reverse=False).tolist() == [30, 15, 5]


def test_mix_refers_to_other_classes_only_and_to_all_of_them():
    made = plan()
    pairs = set(zip(made["source_label"], made["target_label"], strict=True))

    assert (made["source_label"] != made["target_label"]).all()
    assert pairs == {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}


def test_mix_draws_references_evenly_over_images():
    """Of class 1's references six images in seven are of class 0.

    They are drawn from the full training set, not class by class.
    """
    made = plan(multiplier=1000)

    share = (made[made["target_label"] == 1]["source_label"] == 0).mean()
    assert share == pytest.approx(6 / 7, abs=0.03)


def test_aug_refers_to_the_targets_own_images():
    made = plan(mode="aug")
    assert (made["source_label"] == made["target_label"]).all()


def test_gen_refers_to_nothing():
    made = plan(mode="gen")
    assert set(made["source_key"]) == {""}
    assert set(made["source_label"]) == {-1}
    assert set(made["strength"]) == {1.0}


def test_referable_classes_limits_the_sources_of_each_target():
    made = plan(referable_classes=1)
    assert (made.groupby("target_label")["source_label"].nunique() == 1).all()


def test_strengths_are_drawn_evenly_from_the_list():
    shares = plan(multiplier=300)["strength"].value_counts(normalize=True)
    assert sorted(shares.index) == [0.5, 0.7, 0.9]
    assert shares.to_numpy() == pytest.approx(1 / 3, abs=0.04)


def test_every_image_has_its_own_seed_and_a_key():
    made = plan()
    assert made["seed"].is_unique
    assert made["key"].is_unique


def test_halves_of_an_image_are_rounded_up():
    assert target_sizes(np.array([1, 3, 5]), 0.5, reverse=False).tolist() == [1, 2, 3]


@pytest.mark.parametrize("mode", ["mix", "aug", "gen"])
@pytest.mark.parametrize(("smaller", "larger"), [(5, 10), (0.3, 0.5), (2.5, 2.6)])
def test_the_plan_of_a_smaller_multiplier_is_the_beginning_of_a_larger_ones(mode, smaller, larger):
    few = plan(mode=mode, multiplier=smaller)
    many = plan(mode=mode, multiplier=larger)

    assert len(few) < len(many)
    pd.testing.assert_frame_equal(few, many.iloc[: len(few)])


def test_other_strengths_leave_sources_and_seeds_as_they_are():
    mixed = plan()
    single = plan(strengths=[0.7])

    pd.testing.assert_frame_equal(mixed.drop(columns="strength"), single.drop(columns="strength"))
    assert set(single["strength"]) == {0.7}


def test_mix_needs_two_classes():
    with pytest.raises(SystemExit, match=r"method: mixing needs two classes"):
        make_plan(ROWS[ROWS["label"] == 0], 1, Choice("mix", [0.5]), params())


def test_adjacent_pairing_refers_to_the_nearest_classes_alone():
    nearest = np.array([[2, 1], [0, 2], [1, 0]])
    made = plan(nearest=nearest, referable_classes=1, pairing="adjacent")

    pairs = set(zip(made["source_label"], made["target_label"], strict=True))
    assert pairs == {(2, 0), (0, 1), (1, 2)}


def test_adjacent_pairing_needs_a_number_of_neighbours():
    with pytest.raises(ValueError, match=r"set synth.referable_classes"):
        params(pairing="adjacent")


@pytest.mark.parametrize("mode", ["aug", "gen"])
def test_a_choice_of_other_classes_is_refused_where_none_is_referred_to(mode):
    check_choice(mode, params().synth)

    with pytest.raises(
        SystemExit, match=r"^params.yaml: synth.referable_classes: mode \w+ takes no reference"
    ):
        check_choice(mode, params(referable_classes=1).synth)


def test_the_nearest_classes_are_those_whose_images_clip_finds_alike(table):
    """Classes 0 and 1 hold the same birds; class 2 others."""
    rows = table.rows.iloc[[0, 1, 0, 1, 4, 5]].assign(label=[0, 0, 1, 1, 2, 2])
    clip = Pretrained(id=CLIP, revision=None)
    nearest = nearest_classes(Table(table.folder, rows), 3, clip)

    assert nearest.tolist()[0] == [1, 2]
    assert nearest.tolist()[1] == [0, 2]

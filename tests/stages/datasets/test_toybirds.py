"""The Toybirds world: biased or balanced as it says, and the same at every drawing."""

from collections import Counter
from itertools import product

import numpy as np
import pytest

from stages.datasets.toybirds.drawing import SIZE
from stages.datasets.toybirds.species import SPECIES
from stages.datasets.toybirds.tables import SPLITS, draw, draw_toybirds, render_species, scene
from stages.shared.schemas.download import Toybirds
from tests.support.habitats import is_water

SMALL = Toybirds(train_per_class=2, test_per_class=1, ood_per_group=12, bias=0.95)


def test_the_share_in_the_own_habitat_is_the_bias():
    scenes = [scene("train", index, 0.95) for index in range(4000)]
    share = np.mean([each.habitat == SPECIES[each.label].habitat for each in scenes])

    # four standard deviations
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_the_extremes_of_the_bias_are_exact(bias):
    scenes = [scene("test", index, bias) for index in range(200)]
    at_home = {each.habitat == SPECIES[each.label].habitat for each in scenes}
    assert at_home == {bias == 1.0}


def test_the_picture_shows_the_habitat_that_the_scene_names():
    for index in range(100):
        image, _mask = draw("train", index, 0.5)
        habitat = scene("train", index, 0.5).habitat

        assert is_water(image) == (habitat == "water")


def test_ood_groups_are_balanced_and_so_are_their_species():
    rows = draw_toybirds(SMALL).splits["ood"].rows
    names = {f"{kind}bird_{habitat}" for kind, habitat in product(("water", "land"), repeat=2)}

    assert Counter(rows["group"]) == dict.fromkeys(names, 12)
    assert set(rows.groupby(["group", "label"]).size()) == {2}  # 12 images over 6 species
    for group, label in zip(rows["group"], rows["label"], strict=True):
        assert group.startswith(f"{SPECIES[label].habitat}bird_")


def test_every_class_has_its_share_of_train_and_test():
    splits = draw_toybirds(SMALL).splits

    for name, count in (("train", 2), ("test", 1)):
        counts = splits[name].rows["label"].value_counts().to_dict()
        assert counts == dict.fromkeys(range(12), count)


def test_the_same_draw_is_the_same_bytes_and_a_larger_split_begins_with_the_smaller():
    small = list(draw_toybirds(SMALL).splits["train"].images)
    larger = draw_toybirds(SMALL.model_copy(update={"train_per_class": 3}))

    assert list(larger.splits["train"].images)[: len(small)] == small
    assert len(set(small)) == len(small)


def test_splits_share_no_image():
    splits = draw_toybirds(SMALL).splits
    images = [image for name in SPLITS for image in splits[name].images]
    assert len(set(images)) == len(images) == 24 + 12 + 48


def test_rendered_species_stand_in_turn_on_water_and_on_land():
    images, labels = render_species(24, seed=1)

    assert labels.tolist() == [*range(12), *range(12)]
    assert images.shape == (24, SIZE, SIZE, 3)
    assert {is_water(image) for image in images} == {True, False}

"""Drawing of Toybirds: masks are where birds are, flaws break them, scenes are of many kinds."""

from collections import Counter
from itertools import combinations

import numpy as np

from stages.datasets.toybirds.drawing import SIZE, render
from stages.datasets.toybirds.species import HABITATS, SPECIES, random_bird
from tests.support.habitats import is_water


def test_the_picture_shows_the_habitat():
    for seed in range(60):
        for habitat in HABITATS:
            image, _mask = render(SPECIES[0].bird, habitat, np.random.default_rng(seed), SIZE)
            assert is_water(image) == (habitat == "water")


def test_the_mask_is_where_a_bird_changes_the_empty_scene():
    # the same generator draws the same ground without a bird: only the light, drawn last, differs
    bird, mask = render(SPECIES[0].bird, "land", np.random.default_rng(5), SIZE)
    empty, nothing = render(None, "land", np.random.default_rng(5), SIZE)
    ratio = bird[~mask].astype(float).sum(axis=0) / empty[~mask].sum(axis=0)
    changed = np.abs(bird - empty * ratio).max(axis=2) > 40

    assert not nothing.any()
    assert 0.1 < mask.mean() < 0.5
    assert (changed & ~mask).sum() <= 0.15 * mask.sum()  # half-covered pixels, and the shadow
    assert (changed & mask).sum() > 0.6 * mask.sum()


def test_a_fragment_is_less_than_the_bird():
    bird = SPECIES[3].bird
    for seed in range(20):
        _, whole = render(bird, "land", np.random.default_rng(seed), SIZE)
        _, piece = render(bird, "land", np.random.default_rng(seed), SIZE, "fragment")
        assert 0 < piece.sum() < 0.95 * whole.sum()


def test_a_second_head_covers_more_than_the_bird():
    more = 0
    for seed in range(20):
        bird = SPECIES[3].bird
        _, whole = render(bird, "land", np.random.default_rng(seed), SIZE)
        _, two = render(bird, "land", np.random.default_rng(seed), SIZE, "two heads")

        assert (two | ~whole).all()
        more += int(two.sum() > 1.05 * whole.sum())

    assert more > 10


def test_a_habitat_has_scenes_of_many_kinds():
    """The colour of a corner of the ground varies by more than one ground's jitter."""
    for habitat in HABITATS:
        scenes = [render(None, habitat, np.random.default_rng(seed), SIZE)[0] for seed in range(30)]
        corners = [scene[-8:, :8].mean((0, 1)) for scene in scenes]
        assert np.std(corners, axis=0).min() > 10


def test_species_differ_from_each_other_in_looks_and_in_the_picture():
    pictures = []
    for species in SPECIES:
        image, _mask = render(species.bird, "water", np.random.default_rng(1), SIZE)
        pictures.append(image.astype(int))

    for one, other in combinations(range(len(SPECIES)), 2):
        different = np.abs(pictures[one] - pictures[other]).max(axis=2) > 40

        assert SPECIES[one].bird != SPECIES[other].bird
        assert different.sum() >= 40


def test_half_of_the_species_are_waterbirds():
    assert Counter(species.habitat for species in SPECIES) == {"water": 6, "land": 6}


def test_pretraining_never_sees_a_species():
    rng = np.random.default_rng(0)
    drawn = {random_bird(rng) for _ in range(3000)}
    assert not drawn & {species.bird for species in SPECIES}

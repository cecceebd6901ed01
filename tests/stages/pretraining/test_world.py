"""The next Toybirds: masks are where birds are, flaws break them, scenes are of many kinds."""

from itertools import combinations

import numpy as np

from stages.datasets.toybirds.drawing import HABITATS, SPECIES
from stages.pretraining.world.drawing import SIZE, render, render_species


def is_water(image: np.ndarray) -> bool:
    """By the lowest rows, which are bluer than red on water alone."""
    red, _green, blue = np.median(image[-4:].reshape(-1, 3).astype(int), axis=0)
    return blue > red


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


def test_rendered_species_stand_in_turn_on_water_and_on_land():
    images, labels = render_species(24, seed=1)

    assert labels.tolist() == [*range(12), *range(12)]
    assert images.shape == (24, SIZE, SIZE, 3)
    assert {is_water(image) for image in images} == {True, False}


def test_species_differ_in_the_picture():
    pictures = []
    for species in SPECIES:
        image, _mask = render(species.bird, "water", np.random.default_rng(1), SIZE)
        pictures.append(image.astype(int))

    for one, other in combinations(pictures, 2):
        assert (np.abs(one - other).max(axis=2) > 40).sum() >= 40

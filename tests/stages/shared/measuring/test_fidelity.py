"""Fréchet distance, diversity and background error, by hand and by independent formulas."""

import numpy as np
import pytest

from stages.shared.measuring.fidelity import background_error, diversity, frechet_distance


def test_between_two_lines_of_points_the_distance_is_that_of_means_and_deviations():
    # means 1 and 5, variances 2 and 8: (5 - 1)² + (√8 - √2)² = 16 + 2
    assert frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])) == pytest.approx(18)


def test_a_shift_alone_gives_its_squared_length():
    points = np.random.default_rng(0).normal(size=(40, 3))
    assert frechet_distance(points, points + np.array([1, 2, 2])) == pytest.approx(9)


# The second case has singular covariances.
@pytest.mark.parametrize(("one", "other", "width"), [(200, 150, 8), (12, 9, 30)])
def test_the_distance_agrees_with_the_eigenvalues_of_the_covariances_product(one, other, width):
    rng = np.random.default_rng(1)
    first = rng.normal(size=(one, width)) @ rng.normal(size=(width, width))
    second = rng.normal(size=(other, width)) + 1

    first_covariance = np.cov(first.T)
    second_covariance = np.cov(second.T)
    eigenvalues = np.linalg.eigvals(first_covariance @ second_covariance).real.clip(0)
    means = ((first.mean(0) - second.mean(0)) ** 2).sum()
    traces = np.trace(first_covariance) + np.trace(second_covariance)
    expected = means + traces - 2 * np.sqrt(eigenvalues).sum()

    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)


def test_equal_sets_have_no_distance_even_with_fewer_images_than_dimensions():
    features = np.random.default_rng(2).normal(size=(5, 64)).astype(np.float32)
    assert 0 <= frechet_distance(features, features[::-1]) < 1e-9


def test_diversity_is_the_mean_over_pairs_and_then_over_classes():
    # Class 0: angles of 90°, 90° and 180°, distances 1, 1 and 2; class 1: equal images;
    # class 2: a single one.
    features = np.array([[1, 0], [0, 1], [-1, 0], [0, 1], [0, 1], [1, 0]], np.float32)

    assert diversity(features, np.array([0, 0, 0, 1, 1, 2])) == pytest.approx((4 / 3 + 0) / 2)


def test_diversity_agrees_with_all_pairs_cosines():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(30, 7))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    distances = (1 - features @ features.T)[np.triu_indices(30, k=1)]

    assert diversity(features, np.zeros(30)) == pytest.approx(distances.mean())


def test_without_two_images_of_a_class_diversity_is_not_known():
    assert np.isnan(diversity(np.eye(3), np.arange(3)))


def test_background_error_counts_pixels_outside_the_mask_alone():
    reference = np.zeros((2, 2, 3), np.uint8)
    reference[0, 0] = 250  # under the mask
    reference[1, 1] = (30, 0, 6)
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1] = (0, 9, 0)
    mask = np.array([[True, False], [False, False]])

    assert background_error(image, reference, mask) == pytest.approx((30 + 6 + 9) / 9)


def test_a_mask_over_everything_leaves_no_background():
    assert np.isnan(background_error(*np.zeros((2, 4, 4, 3), np.uint8), np.ones((4, 4), bool)))

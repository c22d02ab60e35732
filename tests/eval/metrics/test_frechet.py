"""The Frechet distance of features: exact on known Gaussians, however the features come."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from eval.metrics.frechet import Moments, distance


def known(mean_D: np.ndarray, covariance_DD: np.ndarray) -> Moments:
    """The moments of a Gaussian, as if a thousand frames had been seen."""
    moments = Moments(len(mean_D))
    moments.count, moments.mean_D, moments.scatter_DD = 1000, mean_D, covariance_DD * 999
    return moments


def of(features_KD: np.ndarray) -> Moments:
    return Moments(features_KD.shape[1]).add(features_KD)


def test_gaussians_along_the_axes_have_a_closed_form() -> None:
    """|mu|^2 + sum of (s_a - s_b)^2 where covariances share their axes."""
    one = known(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]))
    other = known(np.array([3.0, 1.0, 0.0]), np.diag([4.0, 4.0, 0.0]))
    assert distance(one, other) == pytest.approx(9 + 4 + (1 - 2) ** 2 + 0 + 3**2, rel=1e-12)
    assert distance(other, one) == pytest.approx(distance(one, other), rel=1e-12)


def test_equal_gaussians_are_at_0_also_with_fewer_frames_than_features() -> None:
    features_KD = np.random.default_rng(0).normal(size=(5, 32))
    assert distance(of(features_KD), of(features_KD[::-1])) == pytest.approx(0, abs=1e-6)


def test_it_is_the_published_formula_with_scipys_matrix_root() -> None:
    random = np.random.default_rng(1)
    one_KD = random.normal(size=(300, 6))
    other_KD = random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 1
    a, b = np.cov(one_KD.T), np.cov(other_KD.T)
    apart = one_KD.mean(axis=0) - other_KD.mean(axis=0)
    published = apart @ apart + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert distance(of(one_KD), of(other_KD)) == pytest.approx(published, rel=1e-9)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8), st.integers(0, 2**31), st.floats(-1e4, 1e4))
def test_features_in_any_batches_and_merged_give_numpys_moments(sizes, seed, shift) -> None:
    random = np.random.default_rng(seed)
    batches = [random.normal(size=(size, 3)) + shift for size in [*sizes, 2]]
    streamed, halves = Moments(3), [Moments(3), Moments(3)]
    for number, batch_KD in enumerate(batches):
        streamed.add(batch_KD)
        halves[number % 2].add(batch_KD)
    all_KD = np.concatenate(batches)
    for moments in (streamed, halves[0].merge(halves[1])):
        assert moments.count == len(all_KD)
        assert moments.mean_D == pytest.approx(all_KD.mean(axis=0), rel=1e-9, abs=1e-9)
        assert moments.covariance() == pytest.approx(np.cov(all_KD.T), rel=1e-6, abs=1e-6)


def test_too_few_frames_and_features_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="two frames"):
        distance(of(np.zeros((1, 2))), of(np.zeros((2, 2))))
    with pytest.raises(ValueError, match="not finite"):
        Moments(2).add(np.array([[0.0, np.nan]]))

"""Frechet distance of two sets of features: how far the pictures of a row, taken together, are from those of the clips.

d^2 = |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), Dowson and Landau (1982), with means and covariances over
all frames of all clips. Heusel et al. (2017) use it with Inception's features and call that FID; with other features
it has another name here. Shape suffixes: K frames, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass
class Moments:
    """Mean and covariance of features that come in batches; memory does not grow with their number."""

    size: int
    count: int = 0
    mean_D: np.ndarray = field(init=False)
    scatter_DD: np.ndarray = field(init=False)  # sum of outer products of what differs from the mean

    def __post_init__(self) -> None:
        self.mean_D, self.scatter_DD = np.zeros(self.size), np.zeros((self.size, self.size))

    def add(self, features_KD: np.ndarray) -> Moments:
        """Take a batch in (Chan, Golub and LeVeque 1983). Raises ValueError where it is not finite."""
        if not len(features_KD):
            return self
        batch_KD = np.asarray(features_KD, np.float64)
        if not np.isfinite(batch_KD).all():
            raise ValueError("features are not finite")
        mean_D = batch_KD.mean(axis=0)
        apart_KD = batch_KD - mean_D
        return self._take(len(batch_KD), mean_D, apart_KD.T @ apart_KD)

    def merge(self, other: Moments) -> Moments:
        """Take in what another has seen."""
        return self._take(other.count, other.mean_D, other.scatter_DD)

    def covariance(self) -> np.ndarray:
        """Unbiased, (D, D). Raises ValueError for less than two frames."""
        if self.count < 2:
            raise ValueError("a covariance needs two frames at least")
        return self.scatter_DD / (self.count - 1)

    def _take(self, count: int, mean_D: np.ndarray, scatter_DD: np.ndarray) -> Moments:
        if count:
            total, apart_D = self.count + count, mean_D - self.mean_D
            self.scatter_DD = self.scatter_DD + scatter_DD + np.outer(apart_D, apart_D) * (self.count * count / total)
            self.mean_D = self.mean_D + apart_D * (count / total)
            self.count = total
        return self


def distance(one: Moments, other: Moments) -> float:
    """The squared Frechet distance of the two Gaussians, as FID is. Raises ValueError for less than two frames each."""
    apart_D = one.mean_D - other.mean_D
    a_DD, b_DD = one.covariance(), other.covariance()
    root_DD = _root(a_DD)
    # The eigenvalues of S_a S_b are those of S_a^(1/2) S_b S_a^(1/2), which is symmetric.
    shared_D = np.linalg.eigvalsh(root_DD @ b_DD @ root_DD)
    cross = np.sqrt(np.clip(shared_D, 0, None)).sum()
    return float(max(apart_D @ apart_D + np.trace(a_DD) + np.trace(b_DD) - 2 * cross, 0.0))


def _root(a_DD: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance; eigenvalues that rounding made negative count as 0."""
    values_D, vectors_DD = np.linalg.eigh(a_DD)
    return (vectors_DD * np.sqrt(np.clip(values_D, 0, None))) @ vectors_DD.T

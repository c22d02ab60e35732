"""Clustering of points by centroid linkage, and groups of what is joined by pairs. No pair of all is held in memory.

Shape suffixes: F points, E dimensions, C clusters.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BLOCK = 2048  # points that are compared with all at once: some 16 kB of memory for each 1 000 points


def centroid_linkage(points_FE: np.ndarray, weight_F: np.ndarray, within: float) -> np.ndarray:
    """Cluster of each point, (F,), numbered by first appearance: no two clusters' means are nearer than `within`.

    Clusters that are each other's nearest are joined, all such pairs of a round at once, until none is left; a mean
    counts points by their weight. The result depends on the points alone, not on how they are divided into blocks.
    Each round compares all clusters: 100 000 take minutes.
    """
    mean_CE: np.ndarray = np.asarray(points_FE, np.float64)
    weight_C: np.ndarray = np.asarray(weight_F, np.float64)
    cluster_F = np.arange(len(mean_CE))
    while len(mean_CE) > 1:
        nearest_C, distance_C = _nearest(mean_CE)
        own_C = np.arange(len(mean_CE))
        join_C = (nearest_C[nearest_C] == own_C) & (distance_C < within) & (own_C < nearest_C)
        if not join_C.any():
            break
        into_C = own_C.copy()
        into_C[nearest_C[join_C]] = own_C[join_C]
        kept, into_C = np.unique(into_C, return_inverse=True)
        sums_CE = np.zeros((len(kept), mean_CE.shape[1]))
        np.add.at(sums_CE, into_C, mean_CE * weight_C[:, None])
        weight_C = np.bincount(into_C, weight_C)
        mean_CE = sums_CE / weight_C[:, None]
        cluster_F = into_C[cluster_F]
    return _by_appearance(cluster_F)


def _nearest(mean_CE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest other cluster of each, the first of equals, and how far it is."""
    square_C = np.square(mean_CE).sum(axis=1)
    nearest_C, distance_C = np.zeros(len(mean_CE), np.int64), np.zeros(len(mean_CE))
    for start in range(0, len(mean_CE), BLOCK):
        block = slice(start, min(start + BLOCK, len(mean_CE)))
        square_BC = square_C[block, None] + square_C - 2 * mean_CE[block] @ mean_CE.T
        square_BC[np.arange(len(square_BC)), np.arange(block.start, block.stop)] = np.inf
        nearest_C[block] = square_BC.argmin(axis=1)
        distance_C[block] = np.sqrt(np.maximum(square_BC.min(axis=1), 0))
    return nearest_C, distance_C


def _by_appearance(cluster_F: np.ndarray) -> np.ndarray:
    _, first, number_F = np.unique(cluster_F, return_index=True, return_inverse=True)
    place = np.empty(len(first), np.int64)
    place[np.argsort(first)] = np.arange(len(first))
    return place[number_F.reshape(-1)]


def joined(count: int, pairs: Iterable[tuple[int, int]]) -> np.ndarray:
    """The group of each of `count` things, (count,): the smallest of those that pairs join, directly or in a chain."""
    parent = np.arange(count)

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = int(parent[one])
        return one

    for one, other in pairs:
        first, second = sorted((root(one), root(other)))
        parent[second] = first
    return np.array([root(one) for one in range(count)], np.int64)

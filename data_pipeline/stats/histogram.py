"""The spread of a fact over any number of clips, in bounded memory: first its range, then its histogram.

Shape suffixes: n values, B bins.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BINS = 40
SAMPLED = 20_000  # values from which quantiles are taken: every k-th, k doubling as they come
TAIL = 0.005  # of the values may lie beyond either end of the axis


class Sample:
    """At most so many evenly spaced values of a stream, and how many there are."""

    def __init__(self, most: int = SAMPLED) -> None:
        self.most = most
        self.count, self._every, self._next, self._kept = 0, 1, 0, np.zeros(0)

    def add(self, values_n: np.ndarray) -> None:
        """Take some more values of the stream; those that are no numbers do not count."""
        values_n = values_n[np.isfinite(values_n)]
        self._kept = np.concatenate([self._kept, values_n[self._next :: self._every]])
        ahead = len(range(self._next, len(values_n), self._every))
        self._next += ahead * self._every - len(values_n)
        self.count += len(values_n)
        while len(self._kept) > self.most:
            if len(self._kept) % 2:
                self._next += self._every
            self._kept, self._every = self._kept[::2], 2 * self._every

    def quantiles(self, shares: Iterable[float]) -> list[float]:
        """Values below which such shares of the stream lie. At least one value must have come."""
        return np.quantile(self._kept, list(shares)).tolist()


def edges(kept: Sample, rejected: Sample, limits: Iterable[float]) -> np.ndarray:
    """The edges of the bins (B + 1,), so that they show nearly all values and every limit."""
    ends = [q for sample in (kept, rejected) if sample.count for q in sample.quantiles((TAIL, 1 - TAIL))]
    ends += list(limits)
    low, high = min(ends), max(ends)
    room = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    return np.linspace(low - room, high + room, BINS + 1)


class Histogram:
    """Counts of kept and of rejected values in the same bins, and of those beyond both ends."""

    def __init__(self, edges_B1: np.ndarray):
        self.edges_B1 = edges_B1
        bins = len(edges_B1) - 1
        self.kept_B, self.rejected_B, self.beyond = np.zeros(bins, np.int64), np.zeros(bins, np.int64), 0

    def add(self, values_n: np.ndarray, rejected: bool = False) -> None:
        """Count some more values; those that are no numbers do not count."""
        values_n = values_n[np.isfinite(values_n)]
        counts_B = np.histogram(values_n, self.edges_B1)[0]
        if rejected:
            self.rejected_B += counts_B
        else:
            self.kept_B += counts_B
        self.beyond += len(values_n) - int(counts_B.sum())

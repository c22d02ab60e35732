"""Whether two methods differ on the same people: a permutation test, and its correction for many metrics.

If two methods were alike, each person's difference could as well have had the other sign. The p value is the share of
all choices of signs whose mean is at least as far from 0 as the one that was found (Fisher's randomisation test, two
sides). People are what is permuted, not clips: clips of one person resemble each other.

Shape suffixes: N people, K choices of signs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

EXACT_PEOPLE = 14  # up to so many all 2^N choices are tried
DRAWS = 100_000  # of signs beyond
TIE = 1e-9  # of the sizes of all differences: two sums that differ by less are one, rounded differently
RULE = (
    f"each person's mean difference; p: the share of all choices of signs (of {DRAWS} random ones beyond "
    f"{EXACT_PEOPLE} people) whose mean is as far from 0, two sides; p_holm: corrected for all metrics of the pair "
    "(Holm 1979)"
)


def p_value(differences: Sequence[float]) -> float:
    """The p value of people's differences. Raises ValueError for none, or for one that is no number."""
    differences_N = np.asarray(differences, np.float64)
    if len(differences_N) == 0 or not np.isfinite(differences_N).all():
        raise ValueError("a test needs the differences of some people, each a number")
    tie = TIE * float(np.abs(differences_N).sum())
    observed = abs(float(differences_N.sum())) - tie
    if len(differences_N) <= EXACT_PEOPLE:
        bits_KN = np.arange(2 ** len(differences_N))[:, None] >> np.arange(len(differences_N)) & 1
        return float((np.abs((1 - 2 * bits_KN) @ differences_N) >= observed).mean())
    random = np.random.default_rng(0)
    as_far = 1  # the choice that was observed is one of them
    for start in range(0, DRAWS, 10_000):
        signs_KN = 1 - 2 * random.integers(0, 2, (min(10_000, DRAWS - start), len(differences_N)))
        as_far += int((np.abs(signs_KN @ differences_N) >= observed).sum())
    return as_far / (DRAWS + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values corrected for their number: the i-th smallest of m times m - i, never below one before (Holm 1979)."""
    corrected, highest = dict[str, float](), 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[name]))
        corrected[name] = highest
    return {name: corrected[name] for name in p_values}

"""The permutation test and Holm's correction against closed forms, hand values and an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from eval.compare import paired


@pytest.mark.parametrize("people", [1, 2, 3, 5, 10])
def test_where_all_people_agree_only_the_two_extremes_are_as_far(people) -> None:
    assert paired.p_value(np.linspace(0.3, 2, people)) == 2 / 2**people
    assert paired.p_value(-np.linspace(0.3, 2, people)) == 2 / 2**people


def test_by_hand() -> None:
    # |3 1 1|: the sums 5, 3, 3, 1 and their negatives; 3 was found, and 6 of 8 are as far.
    assert paired.p_value([3, 1, -1]) == 6 / 8
    assert paired.p_value([0, 0, 0]) == 1
    assert paired.p_value([0.1, 0.2, -0.3]) == 1, "a sum that is 0 but for rounding"


def test_as_scipys_exact_test_and_as_random_signs(monkeypatch) -> None:
    random = np.random.default_rng(1)
    differences = random.normal(0.4, 1, 10)
    exact = stats.permutation_test((differences,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert paired.p_value(differences) == pytest.approx(exact.pvalue)
    monkeypatch.setattr(paired, "EXACT_PEOPLE", 3)
    assert paired.p_value(differences) == pytest.approx(exact.pvalue, abs=0.006), "four standard errors"
    assert paired.p_value(differences) == paired.p_value(differences), "the same signs each time"
    assert paired.p_value(np.ones(40)) == pytest.approx(1e-5, rel=0.01), "never 0"


@pytest.mark.parametrize("differences", [[], [1.0, float("nan")], [float("inf")]])
def test_nothing_and_no_numbers_are_refused(differences) -> None:
    with pytest.raises(ValueError, match="each a number"):
        paired.p_value(differences)


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1; the last may not fall below the one before.
    corrected = paired.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005})
    assert corrected == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert list(corrected) == ["a", "b", "c", "d"]
    assert paired.holm({"a": 0.7, "b": 0.6}) == {"a": 1, "b": 1}
    assert paired.holm({"a": 0.2}) == {"a": 0.2}
    assert paired.holm({}) == {}

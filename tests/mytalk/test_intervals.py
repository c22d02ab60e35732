"""Means over people and their intervals, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from mytalk import intervals


def test_interval_by_hand_and_by_scipy() -> None:
    mean, ci95 = intervals.mean_and_ci95([1.0, 2.0, 3.0])
    assert mean == 2
    assert ci95 == pytest.approx([2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5])  # t(0.975, 2), s = 1
    values = np.random.default_rng(2).normal(size=17).tolist()
    expected = scipy.stats.t.interval(0.95, 16, np.mean(values), scipy.stats.sem(values))
    assert intervals.mean_and_ci95(values)[1] == pytest.approx(list(expected))


def test_people_weigh_the_same_however_many_clips_they_have() -> None:
    score = intervals.over_people([("a", 0.0), *[("b", 1.0)] * 9], total=3)
    assert score["mean"] == 0.5
    assert (score["n"], score["total"], score["clips"]) == (2, 3, 10)


def test_one_person_gives_no_interval() -> None:
    assert intervals.over_people([("a", 0.25), ("a", 0.75)], total=1)["ci95"] is None

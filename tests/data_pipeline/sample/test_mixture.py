"""Corpora: shares that are exact or nearly so, and a deal in which none is ever a whole slot off its share."""

from __future__ import annotations

import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_pipeline.sample.mixture import MOST, Deal, shares
from mytalk.command import UserError

few = st.lists(st.integers(1, 60), min_size=2, max_size=12)
heavy = st.tuples(st.integers(50, 3000), st.lists(st.integers(1, 4), min_size=1, max_size=11)).map(
    lambda both: [both[0], *both[1]]
)
four = st.lists(st.integers(1, 400), min_size=4, max_size=4)
SLOTS = st.one_of(few, heavy, heavy.flatmap(st.permutations), four)


def dealt(slots: list[int], start: int, stop: int) -> np.ndarray:
    """(stop - start, 2): corpus and number of each slot."""
    deal = Deal(np.array(slots))
    return np.array([deal(slot) for slot in range(start, stop)])


@given(SLOTS)
@settings(max_examples=300, deadline=None)
@example([1, 1])
@example([3, 3, 2, 1])
@example([3, 1, 1, 1])  # Webster's order is a whole slot off in these,
@example([9, 9, 1, 1, 1])  # and that of the largest deficit in these
@example([1000, *[1] * 11])
@example([60] * 12)
def test_no_corpus_is_ever_a_whole_slot_off_its_share(slots):
    """|given - n share| < 1 after every n, in whole numbers; each corpus' slots are numbered as they come."""
    period = sum(slots)
    corpus, number = dealt(slots, 0, 2 * period + 7).T
    given_before = np.zeros(len(slots), np.int64)
    for n, (who, before) in enumerate(zip(corpus.tolist(), number.tolist()), 1):
        assert before == given_before[who]
        given_before[who] += 1
        assert (np.abs(given_before * period - n * np.array(slots)) < period).all(), n
        if n == period:
            assert given_before.tolist() == slots
    assert (corpus[period : 2 * period] == corpus[:period]).all()


@given(few, st.integers(0, 10**12))
@settings(max_examples=100, deadline=None)
def test_a_far_slot_is_what_counting_on_would_give(slots, far):
    """Whole periods change the numbers alone, by a period's slots each."""
    period, wide = sum(slots), np.array(slots)
    start = far // period * period
    here, there = dealt(slots, 0, 2 * period), dealt(slots, start, start + 2 * period)
    assert (there[:, 0] == here[:, 0]).all()
    assert (there[:, 1] == here[:, 1] + start // period * wide[here[:, 0]]).all()


def test_a_corpus_alone_has_every_slot():
    deal = Deal(shares({"hdtf": 400}, {"hdtf": 0.3})[1])
    assert [deal(slot) for slot in (0, 1, 10**12)] == [(0, 0), (0, 1), (0, 10**12)]


def test_the_longest_period_of_twenty_corpora_is_made_soon_and_holds_its_bound():
    clips = {f"c{n:02}": 3**n + 1 for n in range(20)}
    _, slots, period = shares(clips, {})
    assert period == MOST
    start = time.process_time()
    deal = Deal(slots)
    assert time.process_time() - start < 1.5
    of = np.array([deal(slot)[0] for slot in range(period)])
    so_far = (of[:, None] == np.arange(20)).cumsum(0)
    assert (np.abs(so_far * period - np.arange(1, period + 1)[:, None] * slots) < period).all()


def exact(clips: dict[str, int], repeats: dict[str, str]) -> dict[str, Fraction]:
    """The share of each corpus, from repeats as they are written."""
    weights = {name: clips[name] * Fraction(repeats.get(name, "1")) for name in clips}
    return {name: weight / sum(weights.values()) for name, weight in weights.items() if weight}


CLIPS = st.dictionaries(st.sampled_from("abcdefghijkl"), st.integers(0, 10**6), min_size=1)
WRITTEN = st.sampled_from(["0", "1", "2", "0.1", "0.3", "1e-3", "2.5", "0.07", "12"])


@given(CLIPS, st.dictionaries(st.sampled_from("abcdefghijkl"), WRITTEN))
@settings(max_examples=300, deadline=None)
@example({"a": 1, "b": 10**6}, {"a": "1e-3"})
@example({name: 1 if name != "l" else 10**6 for name in "abcdefghijkl"}, {})
def test_shares_are_exact_or_within_a_slot(clips, written):
    written = {name: text for name, text in written.items() if name in clips}
    wanted = exact(clips, written) if any(n * Fraction(written.get(c, "1")) for c, n in clips.items()) else {}
    if not wanted:
        with pytest.raises(UserError, match="above 0"):
            shares(clips, {name: float(text) for name, text in written.items()})
        return
    names, slots, period = shares(clips, {name: float(text) for name, text in written.items()})
    assert names == sorted(wanted)
    assert slots.dtype == np.int64
    assert slots.sum() == period <= MOST
    assert slots.min() >= 1
    needed = math.lcm(*(share.denominator for share in wanted.values()))
    if needed <= MOST:
        assert period == needed
        assert [Fraction(int(count), period) for count in slots] == [wanted[name] for name in names]
    else:
        assert period == MOST
        lifted = sum(wanted[name] * MOST < 1 for name in names)  # each took at most a slot from the others
        for name, count in zip(names, slots.tolist()):
            assert count == 1 or -1 - lifted < count - wanted[name] * MOST < 1


def test_remainders_go_to_the_largest_and_ties_to_the_first():
    """Hamilton's method by hand: 65536 = 3 x 21845 + 1, and 7 x 9362 + 2."""
    third = Fraction(1, 3)
    names, slots, _ = shares({"a": 10**9, "b": 10**9 + 1, "c": 10**9}, {})
    assert (names, slots.tolist()) == (["a", "b", "c"], [21845, 21846, 21845])
    assert abs(Fraction(21846, MOST) - third) < Fraction(1, MOST)
    _, slots, _ = shares({"a": 10**9, "b": 10**9, "c": 10**9 + 1, "d": 4 * 10**9}, {})
    assert slots.tolist() == [9362, 9362, 9363, 37449]


def test_repeats_are_the_decimals_that_were_written():
    """0.1 is a tenth, though no float is; a whole number and its float are one."""
    _, slots, period = shares({"a": 3, "b": 1}, {"a": 0.1})
    assert (slots.tolist(), period) == ([3, 10], 13)
    assert shares({"a": 3, "b": 1}, {"a": 2})[1].tolist() == shares({"a": 3, "b": 1}, {"a": 2.0})[1].tolist() == [6, 1]
    assert shares({"a": 3, "b": 1}, {"a": np.float64(0.1)})[1].tolist() == [3, 10]
    assert shares({"b": 5, "a": 5, "out": 7, "none": 0}, {"out": 0})[0] == ["a", "b"]


@pytest.mark.parametrize(
    ("clips", "repeats", "said"),
    [
        ({"hdtf": 3, "mead": 4}, {"hdft": 2}, "unknown corpus 'hdft'; did you mean 'hdtf'"),
        ({"hdtf": 3}, {"zzzz": 2}, "there are: hdtf"),
        ({"hdtf": 3}, {"hdtf": -1}, "'hdtf' are -1"),
        ({"hdtf": 3}, {"hdtf": math.nan}, "nan"),
        ({"hdtf": 3}, {"hdtf": math.inf}, "inf"),
        ({"hdtf": 3}, {"hdtf": "2"}, "'2'"),
        ({"hdtf": 3}, {"hdtf": True}, "True"),
        ({"hdtf": 3}, {"hdtf": None}, "None"),
        ({"hdtf": 3}, {"hdtf": 0}, "above 0"),
        ({"hdtf": 0}, {}, "above 0"),
        ({}, {}, "above 0"),
    ],
)
def test_repeats_that_mean_nothing_are_refused(clips, repeats, said):
    with pytest.raises(UserError, match=said):
        shares(clips, repeats)

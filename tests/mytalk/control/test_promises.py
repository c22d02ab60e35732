"""Promises about the mouth: held exactly, by the person's own way, and without a jump beside them."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mytalk.control.control import Control
from mytalk.control.motion_file import Keyframes
from mytalk.control.promises import CLOSED_PX, Mouth, Promises, frames_of, mouth_of
from mytalk.face.landmarks import INNER_LIP_PAIRS, NOISED

LOWER_POINTS = [NOISED.index(lower) for _, lower in INNER_LIP_PAIRS]
NO_KEYFRAMES = (np.zeros(0, np.int64), np.zeros((0, len(NOISED), 2)))


def person(seed: int = 0, frames: int = 75, opens_px: float = 8.0) -> np.ndarray:
    """Motion along one way of opening, beside small noise: (U, K, 2)."""
    random = np.random.default_rng(seed)
    face_K2 = random.uniform(-40, 40, (len(NOISED), 2))
    for upper, lower in INNER_LIP_PAIRS:
        face_K2[NOISED.index(lower)] = face_K2[NOISED.index(upper)] + (0, 1.0)
    way_K2 = random.normal(0, 0.3, (len(NOISED), 2))
    way_K2[LOWER_POINTS, 1] += 1.0
    opened_U = opens_px * (1 + np.sin(np.arange(frames) / 4)) / 2
    return face_K2 + opened_U[:, None, None] * way_K2 + random.normal(0, 0.01, (frames, len(NOISED), 2))


def promised(mouth: Mouth, frames: int, closed=(), still=(), keyframes=NO_KEYFRAMES) -> Promises:
    closed_T, still_T = np.zeros(frames, bool), np.zeros(frames, bool)
    closed_T[list(closed)], still_T[list(still)] = True, True
    return Promises(mouth, 25.0, closed_T, still_T, *keyframes)


def test_the_opening_is_linear_and_the_way_of_opening_opens_by_1_px():
    source = person()
    mouth = mouth_of(source)
    pairs = [(NOISED.index(upper), NOISED.index(lower)) for upper, lower in INNER_LIP_PAIRS]
    by_hand = np.mean([source[:, lower, 1] - source[:, upper, 1] for upper, lower in pairs], axis=0)
    np.testing.assert_allclose(mouth.opening(source), by_hand)
    assert mouth.opening(mouth.way_K2[None])[0] == pytest.approx(1)
    np.testing.assert_allclose(mouth.opening(mouth.opened(source, np.full(75, 2.5))), by_hand + 2.5)


def test_the_way_is_the_persons_own():
    """Least squares of every point on the opening, by numpy; the prior counts for one px^2 of variance."""
    source = person(opens_px=30)
    mouth = mouth_of(source)
    slope, _ = np.polyfit(mouth.opening(source), source.reshape(75, -1), 1)
    np.testing.assert_allclose(mouth.way_K2.ravel(), slope, atol=0.02)


def test_a_source_whose_mouth_never_moves_or_closes_still_has_a_way_to_close_it():
    still = np.repeat(person(frames=1) + 0, 20, axis=0)
    still[:, LOWER_POINTS, 1] += 12
    mouth = mouth_of(still)
    assert mouth.closed_px == CLOSED_PX
    closed = promised(mouth, 20, closed=[9]).hold(still)
    assert mouth.opening(closed)[9] == pytest.approx(CLOSED_PX)


def test_lips_close_where_promised_and_nothing_else_opens():
    source = person()
    mouth = mouth_of(source)
    held = promised(mouth, 75, closed=[20, 21, 50]).hold(source)
    before, after = mouth.opening(source), mouth.opening(held)
    assert (after[[20, 21, 50]] <= mouth.closed_px + 1e-9).all()
    assert (after <= before + 1e-9).all()
    away = np.abs(np.arange(75)[:, None] - [20, 21, 50]).min(axis=1)
    np.testing.assert_array_equal(held[away > 3], source[away > 3])
    assert (after >= np.minimum(before, mouth.closed_px) - 1e-9).all(), "lips do not cross"


def test_lips_that_are_closed_already_are_left_alone():
    source = person()
    mouth = mouth_of(source)
    least = int(mouth.opening(source).argmin())
    closed = source.copy()
    closed[least] = mouth.opened(source, np.full(75, -5.0))[least]
    np.testing.assert_array_equal(promised(mouth, 75, closed=[least]).hold(closed), closed)


def test_a_still_mouth_is_still_and_the_frames_beside_it_lead_into_it():
    source = person()
    held = promised(mouth_of(source), 75, still=range(30, 45)).hold(source)
    assert np.ptp(held[30:45], axis=0).max() < 1e-9
    np.testing.assert_allclose(held[30], source[30:45].mean(0))
    steps = np.abs(np.diff(held, axis=0)).max((1, 2))
    assert steps.max() < 2 * np.abs(np.diff(source, axis=0)).max()


def test_keyframes_are_held_exactly_and_come_first():
    source = person()
    wanted = person(seed=3, frames=2)
    held = promised(mouth_of(source), 75, closed=[10, 40], still=range(8, 12), keyframes=(np.array([10, 60]), wanted))
    np.testing.assert_array_equal(held.hold(source)[[10, 60]], wanted)


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_promised_holds_in_every_window_and_holding_twice_changes_nothing(data):
    frames = data.draw(st.integers(1, 40))
    some = st.lists(st.integers(0, frames - 1), max_size=8)
    closed, still, keyed = data.draw(some), data.draw(some), sorted(set(data.draw(some)))
    source = person(seed=1, frames=frames, opens_px=data.draw(st.floats(0, 40)))
    mouth = mouth_of(source)
    keyframes = (np.array(keyed, np.int64), person(seed=2, frames=40)[keyed])
    promises = promised(mouth, frames, closed, still, keyframes)
    held = promises.hold(source)
    assert np.isfinite(held).all()
    np.testing.assert_array_equal(held[keyed], keyframes[1])
    free = [frame for frame in closed if frame not in keyed]
    assert (mouth.opening(held)[free] <= mouth.closed_px + 1e-6).all()
    np.testing.assert_allclose(promises.hold(held)[keyed], held[keyed])
    cut = data.draw(st.integers(0, frames - 1))
    part = promises.part(cut, frames)
    inside = [frame - cut for frame in keyed if frame >= cut]
    np.testing.assert_array_equal(part.hold(source[cut:])[inside], keyframes[1][np.array(keyed, int) >= cut])


def test_frames_of_times():
    """Each time has the frames nearest to its moments, one at least; what lies outside of the clip has none."""
    fps = Fraction(25)
    assert frames_of([(0.2, 0.28), (0.5, 0.5)], 20, fps).nonzero()[0].tolist() == [5, 6, 7, 12]
    assert not frames_of([(-1, -0.5), (9, 10)], 20, fps).any()
    assert frames_of([(-1, 0.05)], 20, fps).nonzero()[0].tolist() == [0, 1]


def test_a_spans_promises_count_from_its_first_frame():
    mouth = mouth_of(person())
    keyframe, where = np.array([3, 4]), person(seed=5, frames=2)
    control = Control(closed_s=[(2.0, 2.08)], still_s=[(3.0, 4.0)])
    at_50 = control.promises(mouth, 90, 40, Fraction(50), keyframe, where)
    assert at_50.closed_T.nonzero()[0].tolist() == [10, 11, 12, 13, 14]  # 1.8 s + 10 / 50 s
    assert not at_50.still_T.any()
    at_25 = control.promises_at_25_hz(mouth, 90, 20, Fraction(50), keyframe, where)
    assert at_25.closed_T.nonzero()[0].tolist() == [5, 6, 7]
    assert at_25.keyframe_M.tolist() == [2]  # frames 3 and 4 of 50 Hz are both nearest to frame 2 of 25 Hz
    assert at_25.keyframes_MK2.shape[0] == 1


def test_nothing_is_promised_by_default():
    assert not Control().promises_something
    assert not Control(closed_s=[], still_s=[]).promises_something
    assert Control(keyframes=Keyframes(np.zeros(0, int), np.zeros((0, 478, 3)), 25.0)).promises_something

"""Closures counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import measure_rows
from eval.metrics.landmarks import closure
from eval.metrics.landmarks.closure import Closures, closures
from eval.metrics.metric import Comparison, DetectedVideo, Miss, Truth
from mytalk.face.landmarks import FRAME_HZ, SAMPLES_PER_FRAME
from tests.helpers.faces import opened

FRAMES = 50
SPEAKING = np.ones(FRAMES, bool)


def mouth(*closed: int) -> np.ndarray:
    """A mouth of 10 px that is shut in these frames."""
    opening = np.full(FRAMES, 10.0)
    opening[list(closed)] = 0
    return opening


def at(*frames: int) -> list[tuple[float, float]]:
    """A bilabial of one frame at each of these."""
    return [(frame / FRAME_HZ, (frame + 1) / FRAME_HZ) for frame in frames]


TRUE = mouth(10, 25, 40)


def test_the_true_mouth_closes_on_every_bilabial_and_nowhere_else() -> None:
    found = closures(TRUE, TRUE, at(10, 25, 40), SPEAKING)
    assert found == Closures(3, 0, 0)
    assert (found.recall(), found.precision(), found.f1()) == (1, 1, 1)


def test_one_is_missed_and_one_is_false() -> None:
    found = closures(TRUE, mouth(10, 17, 18, 40), at(10, 25, 40), SPEAKING)
    assert found == Closures(2, 1, 1)
    assert found.recall() == found.precision() == pytest.approx(2 / 3)
    assert found.f1() == pytest.approx(2 / 3)


def test_a_mouth_that_never_closes_finds_none_and_one_that_never_opens_finds_all_at_no_price_but_its_shape() -> None:
    never = closures(TRUE, np.full(FRAMES, 8.0), at(10, 25, 40), SPEAKING)
    assert (never.recall(), never.precision(), never.f1()) == (0, 0, 0)
    assert closures(TRUE, np.zeros(FRAMES), at(10, 25, 40), SPEAKING) == Closures(3, 0, 0), "one run, near a bilabial"


def test_a_closure_where_nobody_speaks_is_no_fault_and_one_that_is_late_counts_within_two_frames() -> None:
    silent = SPEAKING.copy()
    silent[30:36] = False
    assert closures(TRUE, mouth(10, 25, 32, 40), at(10, 25, 40), silent) == Closures(3, 0, 0)
    assert closures(TRUE, mouth(12, 23, 42), at(10, 25, 40), SPEAKING) == Closures(3, 0, 0)
    assert closures(TRUE, mouth(14, 25, 40), at(10, 25, 40), SPEAKING) == Closures(2, 1, 1)


def test_closed_is_a_share_of_the_persons_own_range() -> None:
    truth = np.linspace(2, 12, 201)
    low, high = np.quantile(truth, [0.02, 0.95])
    assert closure.limit_px(truth) == pytest.approx(low + 0.15 * (high - low))


@given(scale=st.floats(0.2, 5), shift=st.floats(0, 20), seed=st.integers(0, 20))
def test_a_mouth_that_opens_further_or_never_meets_is_judged_by_its_own_range(scale, shift, seed) -> None:
    random = np.random.default_rng(seed)
    truth, row = random.uniform(0, 10, (2, FRAMES))
    plain = closures(truth, row, at(5, 20, 33), SPEAKING)
    assert closures(truth * scale + shift, row * scale + shift, at(5, 20, 33), SPEAKING) == plain
    assert plain.hits + plain.missed == 3


@given(st.permutations([5, 20, 33, 41]))
def test_the_order_of_the_bilabials_is_no_matter(frames) -> None:
    row = mouth(5, 12, 33)
    assert closures(TRUE, row, at(*frames), SPEAKING) == Closures(2, 2, 1)


def test_no_bilabial_no_movement_and_unknown_times_are_refused_by_name() -> None:
    for times in ([], at(FRAMES + 50)):
        with pytest.raises(Miss) as raised:
            closures(TRUE, TRUE, times, SPEAKING)
        assert raised.value.reason == closure.NO_BILABIALS
    with pytest.raises(Miss):
        closures(np.full(FRAMES, 3.0), TRUE, at(10), SPEAKING)
    frames, audio = np.zeros((FRAMES, 8, 8, 3), np.uint8), np.zeros(FRAMES * SAMPLES_PER_FRAME, np.float32)
    face = opened(TRUE + 0.1)
    for times, reason in ((None, closure.NO_TIMES), (((0.4, 0.44),), None)):
        truth = Truth(frames, face, audio, face, bilabials_s=times)
        row = Comparison(truth, DetectedVideo(frames, face, np.ones(FRAMES, bool)))
        values, omitted = measure_rows({"row": row}, closure.METRICS)
        if reason is None:
            assert values == {"row": dict.fromkeys(closure.METRICS, 1.0)}, "and the other closures are in silence"
        else:
            assert {why for why, _ in omitted.values()} == {reason}

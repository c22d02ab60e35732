"""Gain, lag and success over people, against planted ones and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from eval.metrics import PEOPLE_METRICS, people
from eval.metrics.landmarks.speech import envelope_db
from eval.metrics.metric import Comparison, DetectedVideo, Miss, Truth
from eval.metrics.people import PersonClip
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers.faces import WAVE, opened

FRAMES = 150


def voice(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    gain_T = np.exp(np.convolve(random.normal(0, 1.5, FRAMES + 4), np.ones(5) / 5, "valid"))
    return 0.1 * np.repeat(gain_T, SAMPLES_PER_FRAME) * random.standard_normal(FRAMES * SAMPLES_PER_FRAME)


def mouth(sound_S: np.ndarray, gain: float, lag_s: float) -> np.ndarray:
    """An opening that follows the loudness so far and so late."""
    envelope_T = envelope_db(sound_S, FRAMES)
    at_T = np.arange(FRAMES)
    return 10 + gain * np.interp(at_T - 25 * lag_s, at_T, envelope_T) / envelope_T.std()


def clips(gain: float, lag: float, count: int = 8) -> list[PersonClip]:
    """People of known gains and lags, two clips each, written with these shares of what sets them apart."""
    made = []
    for person in range(count):
        true_gain, true_lag = 1 + 0.4 * person, -0.04 + 0.02 * person
        for clip in range(2):
            sound_S = voice(10 * person + clip)
            truth = people.traits(mouth(sound_S, true_gain, true_lag), sound_S)
            row = people.traits(mouth(sound_S, 2 * true_gain**gain, 0.03 + lag * true_lag), sound_S)
            made.append(PersonClip(f"p{person}", truth, row))
    return made


@pytest.mark.parametrize("lag_s", [-0.16, -0.04, 0.0, 0.05, 0.12])
def test_a_planted_lag_is_found_between_frames_too(lag_s) -> None:
    sound_S = voice(3)
    found = people.traits(mouth(sound_S, 2.0, lag_s), sound_S)
    assert found["lag_s"] == pytest.approx(lag_s, abs=0.008)
    assert found["lag_correlation"] > 0.9


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_what_a_row_keeps_of_a_persons_gain_and_lag_is_the_slope(share) -> None:
    made = clips(share, share)
    for metric, tolerance in (("gain_recovered", 0.05), ("lag_recovered", 0.12)):
        entry = PEOPLE_METRICS[metric].compute(made, 9)
        assert entry["mean"] == pytest.approx(share, abs=tolerance)
        assert entry["ci95"][0] <= entry["mean"] <= entry["ci95"][1]
        assert (entry["n"], entry["total"], entry["clips"]) == (8, 9, 16)


def test_the_slope_is_that_of_least_squares_and_the_order_of_clips_changes_nothing() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(0, 1, (2, 12))
    made = [PersonClip(str(i), {"log_amplitude": a}, {"log_amplitude": b}) for i, (a, b) in enumerate(zip(x, y))]
    entry = PEOPLE_METRICS["gain_recovered"].compute(made, 12)
    assert entry["mean"] == pytest.approx(scipy.stats.linregress(x, y).slope)
    assert entry == PEOPLE_METRICS["gain_recovered"].compute(made, 12), "the draws are the same each time"
    again = PEOPLE_METRICS["gain_recovered"].compute(made[::-1], 12)
    assert again["mean"] == pytest.approx(entry["mean"])


def test_the_interval_covers_what_the_noise_of_people_could_have_given() -> None:
    """Of 60 draws of 25 people with a true slope of 0.7, the interval holds it in most."""
    held = 0
    for seed in range(60):
        random = np.random.default_rng(seed)
        x = random.normal(0, 1, 25)
        y = 0.7 * x + random.normal(0, 0.5, 25)
        made = [PersonClip(str(i), {"log_amplitude": a}, {"log_amplitude": b}) for i, (a, b) in enumerate(zip(x, y))]
        low, high = PEOPLE_METRICS["gain_recovered"].compute(made, 25)["ci95"]
        held += low <= 0.7 <= high
    assert 50 <= held <= 60


def test_few_people_people_who_are_alike_and_mouths_that_tell_no_lag_are_refused() -> None:
    with pytest.raises(Miss, match="4 people"):
        PEOPLE_METRICS["gain_recovered"].compute(clips(1, 1, 4), 4)
    alike = [PersonClip(str(i), {"log_amplitude": 1.0}, {"log_amplitude": i}) for i in range(6)]
    with pytest.raises(Miss, match="varies by less"):
        PEOPLE_METRICS["gain_recovered"].compute(alike, 6)
    deaf = [PersonClip(str(i), {"lag_s": i, "lag_correlation": 0.1}, {"lag_s": i}) for i in range(6)]
    with pytest.raises(Miss, match="0 people"):
        PEOPLE_METRICS["lag_recovered"].compute(deaf, 6)


def test_the_truth_that_is_kept_is_that_of_the_longest_row_in_whatever_order() -> None:
    truth = Truth(
        np.zeros((len(WAVE), 1, 1, 3), np.uint8), opened(WAVE), voice(2)[: len(WAVE) * SAMPLES_PER_FRAME], opened(WAVE)
    )
    rows = {}
    for name, length in (("short", len(WAVE) // 2), ("whole", len(WAVE)), ("shorter", len(WAVE) // 3)):
        part = truth.first(length)
        video = DetectedVideo(part.frames_THW3, part.landmarks_TN3, np.ones(length, bool))
        rows[name] = Comparison(part, video)
    kept = people.of_rows(rows)
    assert kept["truth"] == kept["whole"] != kept["short"]
    assert people.of_rows(dict(reversed(rows.items()))) == kept


def test_a_still_mouth_recovers_nobody() -> None:
    still = [PersonClip(clip.person, clip.truth, people.traits(np.full(FRAMES, 7.0), voice(1))) for clip in clips(1, 1)]
    assert still[0].row == {"log_amplitude": math.log(0.125), "lag_s": 0.0, "lag_correlation": 0.0}
    for metric in ("gain_recovered", "lag_recovered"):
        assert PEOPLE_METRICS[metric].compute(still, 8)["mean"] == pytest.approx(0)


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=12))
def test_success_is_the_share_of_what_was_tried(usable) -> None:
    made = [PersonClip(str(i), usable=value) for i, value in enumerate(usable)]
    tried = [value for value in usable if value is not None]
    if not tried:
        with pytest.raises(Miss):
            PEOPLE_METRICS["success_rate"].compute(made, len(made))
        return
    entry = PEOPLE_METRICS["success_rate"].compute(made, len(made))
    assert entry["mean"] == pytest.approx(sum(tried) / len(tried))
    assert (entry["n"], entry["clips"], entry["total"]) == (len(tried), len(tried), len(usable))

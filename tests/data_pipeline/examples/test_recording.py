"""Speech recorded otherwise, against what each condition says of itself."""

from __future__ import annotations

import numpy as np
import pytest

from data_pipeline.examples import recording
from mytalk.face.landmarks import SAMPLE_HZ, SAMPLES_PER_FRAME


@pytest.fixture(scope="module")
def speech_S() -> np.ndarray:
    """Two seconds, loud and soft frames."""
    random = np.random.default_rng(0)
    loudness_T = 10 ** random.uniform(-3, -0.6, 50)
    return (np.repeat(loudness_T, SAMPLES_PER_FRAME) * random.standard_normal(50 * SAMPLES_PER_FRAME)).astype(
        np.float32
    )


def tone(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(SAMPLE_HZ) / SAMPLE_HZ).astype(np.float32)


@pytest.mark.parametrize("steepness", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("snr_db", [3.0, 20.0])
def test_noise_lies_as_far_below_the_speech_as_it_says(speech_S, snr_db, steepness):
    noise_S = recording.noisy(speech_S, snr_db, np.random.default_rng(1), steepness) - speech_S
    wanted = recording.speech_power(speech_S) / 10 ** (snr_db / 10)
    assert np.square(noise_S, dtype=np.float64).mean() == pytest.approx(wanted, rel=1e-3)
    spectrum = np.square(np.abs(np.fft.rfft(noise_S)))
    hz = np.fft.rfftfreq(len(noise_S), 1 / SAMPLE_HZ)
    low, high = (spectrum[(hz > f) & (hz < 2 * f)].mean() for f in (200, 3200))
    assert np.log2(low / high) / 4 == pytest.approx(steepness, abs=0.1)


def test_the_level_is_that_of_the_frames_in_which_somebody_speaks(speech_S):
    pauses = np.concatenate([speech_S, np.zeros_like(speech_S)])
    assert recording.speech_power(pauses) == pytest.approx(recording.speech_power(speech_S))
    assert recording.speech_power(np.zeros(9000)) == 0.0
    assert recording.speech_power(recording.louder(speech_S, -12)) == pytest.approx(
        recording.speech_power(speech_S) / 10**1.2, rel=1e-5
    )


def test_a_room_follows_the_direct_sound_and_falls_by_60_db():
    """A click: it stays where it is; what follows has the stated energy, and its decay the stated time."""
    click = np.zeros(SAMPLE_HZ, np.float32)
    click[100] = 1.0
    heard = recording.in_room(click, 0.4, 5.0, np.random.default_rng(2)).astype(np.float64)
    assert np.abs(heard[:100]).max() < 1e-6
    assert heard[100] == pytest.approx(1.0, abs=1e-5)
    tail = np.square(heard[101:])
    assert 10 * np.log10(tail.sum()) == pytest.approx(-5.0, abs=1e-3)
    left_db = 10 * np.log10(tail[::-1].cumsum()[::-1][: round(0.3 * SAMPLE_HZ)] / tail.sum())  # Schroeder's curve
    slope = np.polyfit(np.arange(len(left_db)) / SAMPLE_HZ, left_db, 1)[0]
    assert -60 / slope == pytest.approx(0.4, rel=0.1)


@pytest.mark.parametrize(("hz", "share"), [(100.0, 0.0), (290.0, None), (1000.0, 1.0), (3300.0, None), (6000.0, 0.0)])
def test_a_band_keeps_what_lies_in_it(hz, share):
    kept = np.abs(recording.in_band(tone(hz), 300, 3400)).max()
    assert kept == pytest.approx(share, abs=0.02) if share is not None else 0.05 < kept < 0.99


def test_clipping_is_at_a_share_of_the_largest_sample():
    assert np.abs(recording.clipped(0.5 * tone(100), 0.4)).max() == pytest.approx(0.2, rel=1e-3)


def test_silence_stays_silence():
    for seed in range(20):
        assert not recording.recorded(np.zeros(6400, np.float32), np.random.default_rng(seed)).any()


def test_what_is_behind_the_speech_lies_as_far_below_it_as_it_says(speech_S):
    for other_S in (np.roll(speech_S, 4000), recording.music(len(speech_S), np.random.default_rng(3))):
        added_S = recording.below(speech_S, other_S, 10.0) - speech_S
        assert recording.speech_power(added_S) == pytest.approx(recording.speech_power(speech_S) / 10, rel=1e-3)
    assert recording.below(speech_S, np.zeros_like(speech_S), 10.0) is speech_S


@pytest.mark.parametrize(("bits", "snr_db"), [(8, 38.0), (4, 12.0)])
def test_a_codec_of_few_bits_errs_by_its_law(bits, snr_db):
    """G.711 is known for about 38 dB on speech; each bit less costs 6 dB or more."""
    error_S = recording.companded(tone(440), bits) - tone(440)
    assert 10 * np.log10(0.5 / np.square(error_S).mean()) == pytest.approx(snr_db, abs=3)


def test_voices_are_heard_in_some_recordings(speech_S):
    other_S = np.roll(speech_S, 4000)

    def heard(seed: int, *voices: np.ndarray) -> bool:
        alone_S, behind_S = (recording.recorded(speech_S, np.random.default_rng(seed), v) for v in ((), voices))
        return not np.array_equal(alone_S, behind_S)

    assert 0 < sum(heard(seed, other_S) for seed in range(40)) < 20

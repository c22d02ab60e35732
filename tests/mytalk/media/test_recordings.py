"""However a clip was recorded, pictures and sound are read on one clock: to 10 ms, against the film's own truth."""

from __future__ import annotations

import numpy as np
import pytest

from mytalk import media
from mytalk.face import landmarks
from tests.helpers import needs, recordings
from tests.helpers.recordings import RECORDINGS, DrawnFilm, Recording

SECONDS = 4.0
MOST_S = 0.010
HZ = 16_000


def level_at(times_T: np.ndarray) -> np.ndarray:
    """How bright the film is at any moment: it moves about as fast as a mouth does."""
    t = np.asarray(times_T, np.float64)
    return 125 + 45 * np.sin(2 * np.pi * 1.9 * t) + 35 * np.sin(2 * np.pi * 0.73 * t + 1)


def pictures_at(times_T: np.ndarray):
    """Plain pictures, with a white corner at the upper left."""
    for level in level_at(times_T):
        picture = np.full((64, 96, 3), round(float(level)), np.uint8)
        picture[:16, :16] = 250
        yield picture


def sound() -> np.ndarray:
    """Noise below 4 kHz at 48 kHz."""
    random = np.random.default_rng(0)
    spectrum = np.fft.rfft(random.normal(0, 1, round(SECONDS * 48_000)))
    spectrum[round(4000 * SECONDS) :] = 0
    noise_S = np.fft.irfft(spectrum)
    return 0.3 * noise_S / np.abs(noise_S).max()


def picture_late_s(levels_T: np.ndarray, truth_at, begin_s: float = 0.0) -> float:
    """By how much what is read lags behind the truth: the shift that fits best, in s."""
    times_T = np.arange(len(levels_T)) / 25
    used_T = (times_T > begin_s + 0.1) & (times_T < times_T[-1] - 0.1)
    shifts = np.arange(-80, 81) / 1000

    def misfit(shift_s: float) -> float:
        return -float(np.corrcoef(levels_T[used_T], truth_at(times_T[used_T] - shift_s))[0, 1])

    return float(min(shifts, key=misfit))


def sound_late_s(heard_S: np.ndarray, said_S: np.ndarray) -> float:
    """By how much what is heard lags behind what was said, both at 16 kHz, by cross-correlation."""
    size = 2 * max(len(heard_S), len(said_S))
    product = np.fft.rfft(heard_S, size) * np.conj(np.fft.rfft(said_S, size))
    lag = int(np.fft.irfft(product).argmax())
    return (lag if lag < size // 2 else lag - size) / HZ


def at_16_khz(sound_S: np.ndarray, hz: int) -> np.ndarray:
    return np.interp(np.arange(round(len(sound_S) / hz * HZ)) / HZ, np.arange(len(sound_S)) / hz, sound_S)


@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_pictures_and_sound_are_read_on_one_clock(tmp_path, recording):
    path = tmp_path / "v.bin"  # the name says nothing of the format
    said_S = sound()
    path.write_bytes(recordings.record(recording, pictures_at, said_S, 48_000, SECONDS))
    notes = media.Notes()
    frames = np.stack(list(media.read_frames(path, notes=notes)))
    heard_S = media.read_audio(path, notes=notes)
    assert notes.cut is None
    assert frames.shape[1:] == (64 - recording.crop_px, 96 - recording.crop_px, 3), "upright"
    assert frames[50, :12, :12].mean() > 230
    assert abs(len(frames) - 25 * SECONDS) <= 1
    late_s = picture_late_s(frames[:, 24:60, 24:90].mean(axis=(1, 2, 3)), level_at, recording.fade_s)
    heard_late_s = sound_late_s(heard_S, at_16_khz(said_S, 48_000))
    assert abs(late_s) < MOST_S
    assert abs(heard_late_s - recording.late_s) < MOST_S
    assert abs(heard_late_s - recording.late_s - late_s) < MOST_S
    loud = np.sqrt(np.mean(np.square(heard_S[HZ:-HZ]))) / np.sqrt(np.mean(np.square(said_S)))
    assert 0.8 < loud < 1.2, "speech is as loud as it was said"


def test_the_measure_sees_pictures_that_are_late_by_half_a_frame():
    """A reader that shows what is on the screen is late by 13 ms at 30 fps: it would not pass."""
    times_T = np.floor(np.arange(100) / 25 * 30 + 1e-9) / 30
    assert picture_late_s(level_at(times_T), level_at) == pytest.approx(0.0133, abs=0.003)
    said_S = at_16_khz(sound(), 48_000)
    assert sound_late_s(np.pad(said_S, (160, 0)), said_S) == pytest.approx(0.010, abs=1e-4)


@pytest.mark.full
@needs.drawn_people
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)
def test_a_drawn_clip_keeps_its_sync(tmp_path, recording: Recording):
    """The mouth that face mesh sees opens when the drawn one does, and the speech is heard when it was spoken."""
    from mytalk.face import detector
    from mytalk.face.track import find_faces

    film = DrawnFilm(seed=0, identity=0, clip=0, seconds=4.0, size=256)
    path = tmp_path / "v.bin"
    path.write_bytes(recordings.record_drawn(recording, film))
    track = find_faces(media.read_frames(path, notes=media.Notes()), detector.load(detector.DEFAULT))
    opening_T = landmarks.opening(track.landmarks_TN3)
    assert track.found_T[int(recording.fade_s * 25) + 2 :].all()
    assert abs(picture_late_s(opening_T, film.opening_at, recording.fade_s)) < MOST_S
    heard_late_s = sound_late_s(media.read_audio(path), at_16_khz(*film.sound()))
    assert abs(heard_late_s - recording.late_s) < MOST_S

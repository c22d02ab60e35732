"""Where there is music, alone or under speech: held tones of more than one pitch.

Continuous frequency activation: in a spectrogram whose local maxima are set to 1 and all else to 0, a held tone is a
horizontal bar; averaged over 2.6 s it is a high, narrow peak. A voice's harmonics glide and leave none. (Seyerlehner,
Pohle, Schedl and Widmer, Automatic music detection in television productions, DAFx 2007.) Our own: the peaks that are
harmonics of one fundamental are left out, since a voice in monotone and mains hum have those alone; and a tone far
softer than the file's loud passages does not count, since the pauses of speech hold hum and coding noise.

Drums, one instrument alone and unaccompanied singing are not told.
Shape suffixes: S audio samples (16 kHz), T video frames (25 Hz), M frames of the spectrogram, F frequencies, P peaks,
C pitches.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.speech.level import frame_count, levels_db

WINDOW_S, STEP_S = 2.6, 1.3  # of sound that gets one score, and from one to the next
LEAST_S = 1.0  # a shorter sound is not judged
FFT, HOP = 2048, 512
BIN_HZ = SAMPLE_HZ / FFT
LOWEST_HZ, HIGHEST_HZ = 150, 6000
NEIGHBOURS = 21  # frequencies (160 Hz) around a local maximum
ABOVE_NEIGHBOURS_DB = 3.0
BELOW_LOUD_DB = 40.0  # a tone softer than the loud passages by more does not count
LOUD_SHARE = 0.95  # of the file's frames are softer than its loud passages
LEAST_DB = -60.0  # of full scale: below, it is no music but noise
PITCHES_HZ_C = np.arange(45.0, 400.0, 0.5)  # of voices, and of hum
WIDTH_HZ_C = np.clip(0.06 * PITCHES_HZ_C, 4.0, 6.0)  # so near to a harmonic, a peak is one
PEAKS = 5  # the strongest bars are added
CERTAIN = 3.0  # their sum at which the score is 1; half of it separates music from speech (docs/log.md)
MUSIC = 0.5  # the score from which on it is music


def music_T(audio_S: np.ndarray, on_window: Callable[[], None] = lambda: None) -> np.ndarray:
    """How surely there is music in each 40 ms of a file's sound at 16 kHz: (S,) -> (T,), 0 to 1, music from MUSIC on.

    Each frame has the score of the 2.6 s around it, at the ends of the file the first or last. NaN where all of the
    sound is shorter than LEAST_S. `on_window` is called at each score, as a sign of life.
    """
    frames = frame_count(audio_S)
    if len(audio_S) < LEAST_S * SAMPLE_HZ:
        return np.full(frames, np.nan)
    loud_db = float(np.quantile(levels_db(audio_S), LOUD_SHARE))
    if loud_db < LEAST_DB:
        return np.zeros(frames)
    window, step = round(WINDOW_S * SAMPLE_HZ), round(STEP_S * SAMPLE_HZ)
    starts = np.arange(0, max(len(audio_S) - window, 0) + 1, step)
    scores = np.zeros(len(starts))
    for number, start in enumerate(starts):
        scores[number] = _held_tones(audio_S[start : start + window], loud_db - BELOW_LOUD_DB)
        on_window()
    middle_T = (np.arange(frames) + 0.5) * SAMPLES_PER_FRAME
    nearest_T = np.clip(np.round((middle_T - window / 2) / step), 0, len(starts) - 1).astype(int)
    return np.minimum(scores[nearest_T] / CERTAIN, 1.0)


def _held_tones(audio_S: np.ndarray, least_db: float) -> float:
    """The sum of the strongest bars in a stretch of sound, without those of one voice.

    Each bar is from 0 to 1, about the share of the time that its tone is there.
    """
    tone_db_MF = _spectrogram_db(audio_S)
    low, high = round(LOWEST_HZ / BIN_HZ), round(HIGHEST_HZ / BIN_HZ)
    above_MF = tone_db_MF > _neighbours(tone_db_MF) + ABOVE_NEIGHBOURS_DB
    place_P, height_P = _peaks((above_MF & (tone_db_MF > least_db))[:, low:high].mean(axis=0))
    return float(np.sort(height_P[~_of_one_voice((low + place_P) * BIN_HZ, height_P)])[-PEAKS:].sum())


def _of_one_voice(peak_hz_P: np.ndarray, height_P: np.ndarray) -> np.ndarray:
    """Which peaks are harmonics of the pitch that explains the most height, beyond what it would by chance."""
    pitch_hz_C1 = PITCHES_HZ_C[:, None]
    beside_hz_CP = np.abs(peak_hz_P - np.round(peak_hz_P / pitch_hz_C1) * pitch_hz_C1)
    harmonic_CP = beside_hz_CP <= WIDTH_HZ_C[:, None]
    chance_C = 2 * WIDTH_HZ_C / PITCHES_HZ_C
    return harmonic_CP[(harmonic_CP @ height_P - chance_C * height_P.sum()).argmax()]


def _spectrogram_db(audio_S: np.ndarray) -> np.ndarray:
    """(M, F): the level of a tone at each frequency in dB of full scale, as its root mean square."""
    windows_MS = np.lib.stride_tricks.sliding_window_view(audio_S, FFT)[::HOP]
    taper_S = np.hanning(FFT).astype(np.float32)
    magnitude_MF = np.abs(np.fft.rfft(windows_MS * taper_S)) * (np.sqrt(2) / taper_S.sum())
    return 20 * np.log10(magnitude_MF + 1e-6)


def _neighbours(level_MF: np.ndarray) -> np.ndarray:
    """The mean over the NEIGHBOURS frequencies around each one; at the borders the last one is repeated."""
    side = NEIGHBOURS // 2
    padded_MF = np.pad(level_MF, ((0, 0), (side + 1, side)), mode="edge")
    sums_MF = np.cumsum(padded_MF, axis=1)
    return (sums_MF[:, NEIGHBOURS:] - sums_MF[:, :-NEIGHBOURS]) / NEIGHBOURS


def _peaks(values_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the local maxima are, and how far each rises above the higher of the two valleys beside it."""
    starts = np.flatnonzero(np.diff(values_F, prepend=np.nan) != 0)  # of plateaus, each of which is one point
    middles = (starts + np.append(starts[1:], len(values_F)) - 1) / 2
    rises = np.sign(np.diff(values_F[starts]))
    turns = np.flatnonzero(np.diff(rises, prepend=np.nan, append=np.nan) != 0)  # and both ends
    values, places = values_F[starts][turns], middles[turns]
    is_peak = (values[1:-1] > values[:-2]) & (values[1:-1] > values[2:])
    return places[1:-1][is_peak], (values[1:-1] - np.maximum(values[:-2], values[2:]))[is_peak]

"""Speech as people record it: loudness, other voices, music, noise, rooms, bands, codecs and clipping.

Drawn for an example: an augmentation of training, and the conditions of `benchmarks.robustness`. The direct sound stays
where it is, so lips and speech stay together. Shape suffix: S audio samples (16 kHz, float in [-1, 1]).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mytalk.face.landmarks import SAMPLE_HZ, SAMPLES_PER_FRAME

GAIN_DB = (-18.0, 6.0)
NOISE, SNR_DB = 0.6, (3.0, 30.0)  # share of the examples that have it, and its range
ROOM, ROOM_S, DIRECT_DB = 0.4, (0.1, 0.6), (-3.0, 10.0)  # reverberation time; direct sound against what follows
BAND, LOW_HZ, HIGH_HZ = 0.25, (50.0, 400.0), (2800.0, 7000.0)
BABBLE, BABBLE_DB, MOST_VOICES = 0.2, (5.0, 25.0), 4  # other people's speech, so far below the speech
MUSIC, MUSIC_DB = 0.2, (5.0, 25.0)
CODEC, CODEC_BITS = 0.15, (4, 8)  # of a telephone's companding; 8 is G.711
MU = 255.0  # of its law
CLIPPED, CLIP_LEVEL = 0.1, (0.2, 0.8)  # of the largest sample
STEEPEST = 2.0  # noise is white to brown: power falls with the frequency to this exponent
ACTIVE = 0.01  # frames within 20 dB of the loudest one are speech


def speech_power(audio_S: np.ndarray) -> float:
    """Mean square over the frames (40 ms) in which somebody speaks: those within 20 dB of the loudest. 0 of silence."""
    whole = len(audio_S) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME
    power_T = np.square(audio_S[:whole], dtype=np.float64).reshape(-1, SAMPLES_PER_FRAME).mean(1)
    if not power_T.any():
        return 0.0
    return float(power_T[power_T >= ACTIVE * power_T.max()].mean())


def louder(audio_S: np.ndarray, gain_db: float) -> np.ndarray:
    """Louder by so many dB, quieter where negative."""
    return audio_S * np.float32(10 ** (gain_db / 20))


def noisy(audio_S: np.ndarray, snr_db: float, random: np.random.Generator, steepness: float = 1.0) -> np.ndarray:
    """With noise so many dB below the speech; power falls as 1 / f^steepness (0 white, 1 pink, 2 brown)."""
    bins = len(audio_S) // 2 + 1
    spectrum = random.standard_normal(bins) + 1j * random.standard_normal(bins)
    spectrum *= np.maximum(np.arange(bins) / len(audio_S) * SAMPLE_HZ, 20.0) ** (-steepness / 2)
    noise_S = np.fft.irfft(spectrum, len(audio_S))
    wanted = speech_power(audio_S) * 10 ** (-snr_db / 10)
    noise_S *= np.sqrt(wanted / np.square(noise_S).mean())
    return (audio_S + noise_S).astype(np.float32)


def below(audio_S: np.ndarray, other_S: np.ndarray, snr_db: float) -> np.ndarray:
    """With another sound as long, so many dB below the speech where both are heard; of silence nothing is added."""
    power = speech_power(other_S)
    if not power:
        return audio_S
    gain = np.sqrt(speech_power(audio_S) / power * 10 ** (-snr_db / 10))
    return (audio_S + gain * other_S).astype(np.float32)


def music(samples: int, random: np.random.Generator) -> np.ndarray:
    """A drawn melody of three voices: notes of five harmonics that fade, each 0.15 to 0.6 s after the one before."""
    sound_S, at = np.zeros(samples), 0
    while at < samples:
        time_s = np.arange(samples - at) / SAMPLE_HZ
        fading = np.exp(-time_s / random.uniform(0.1, 0.6))
        for note in random.integers(36, 84, 3):
            hz = 440.0 * 2 ** ((note - 69) / 12)
            sound_S[at:] += fading * sum(np.sin(2 * np.pi * n * hz * time_s) / n for n in range(1, 6) if n * hz < 7000)
        at += int(random.uniform(0.15, 0.6) * SAMPLE_HZ)
    return sound_S


def companded(audio_S: np.ndarray, bits: int) -> np.ndarray:
    """Through a telephone's codec: each sample rounded to so many bits on a logarithmic scale (mu-law, G.711 at 8)."""
    largest, levels = np.abs(audio_S).max(initial=0.0), 2 ** (bits - 1) - 1
    if not largest:
        return audio_S
    scaled_S = np.log1p(MU * np.abs(audio_S) / largest) / np.log1p(MU)
    rounded_S = np.expm1(np.round(scaled_S * levels) / levels * np.log1p(MU)) / MU
    return (np.sign(audio_S) * rounded_S * largest).astype(np.float32)


def in_room(audio_S: np.ndarray, decay_s: float, direct_db: float, random: np.random.Generator) -> np.ndarray:
    """In a room: noise that falls by 60 dB in `decay_s` follows the direct sound, `direct_db` below it in energy."""
    tail = random.standard_normal(max(2, round(decay_s * SAMPLE_HZ)))
    tail *= 10 ** (-3 * np.arange(len(tail)) / len(tail))
    tail[0] = 0.0
    response = tail * np.sqrt(10 ** (-direct_db / 10) / np.square(tail).sum())
    response[0] = 1.0
    size = len(audio_S) + len(response) - 1
    heard_S = np.fft.irfft(np.fft.rfft(audio_S, size) * np.fft.rfft(response, size), size)
    return heard_S[: len(audio_S)].astype(np.float32)


def in_band(audio_S: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Without what lies outside of a band; its edges fall over a sixth of an octave. A telephone's: 300 to 3400 Hz."""
    octaves = np.log2(np.maximum(np.fft.rfftfreq(len(audio_S), 1 / SAMPLE_HZ), 1e-3))
    inside = np.minimum(octaves - np.log2(low_hz), np.log2(high_hz) - octaves)
    return np.fft.irfft(np.fft.rfft(audio_S) * np.clip(0.5 + 6 * inside, 0, 1), len(audio_S)).astype(np.float32)


def clipped(audio_S: np.ndarray, level: float) -> np.ndarray:
    """Cut off at this share of the largest sample."""
    limit = level * np.abs(audio_S).max(initial=0.0)
    return np.clip(audio_S, -limit, limit)


def recorded(audio_S: np.ndarray, random: np.random.Generator, voices: Sequence[np.ndarray] = ()) -> np.ndarray:
    """The speech in a drawn room, noise, band, loudness, in the order in which a recording gets them.

    `voices` are other people's speech, as long, that may be heard behind it.
    """
    if random.random() < ROOM:
        audio_S = in_room(audio_S, random.uniform(*ROOM_S), random.uniform(*DIRECT_DB), random)
    babble, behind = random.random(2) < (BABBLE, MUSIC)
    babble_db, music_db = random.uniform(*BABBLE_DB), random.uniform(*MUSIC_DB)
    if babble and voices:
        audio_S = below(audio_S, np.sum(voices, axis=0), babble_db)
    if behind:
        audio_S = below(audio_S, music(len(audio_S), random), music_db)
    if random.random() < NOISE:
        audio_S = noisy(audio_S, random.uniform(*SNR_DB), random, random.uniform(0, STEEPEST))
    if random.random() < BAND:
        audio_S = in_band(audio_S, random.uniform(*LOW_HZ), random.uniform(*HIGH_HZ))
    if random.random() < CODEC:
        audio_S = companded(audio_S, int(random.integers(CODEC_BITS[0], CODEC_BITS[1] + 1)))
    if random.random() < CLIPPED:
        audio_S = clipped(audio_S, random.uniform(*CLIP_LEVEL))
    return louder(audio_S, random.uniform(*GAIN_DB))

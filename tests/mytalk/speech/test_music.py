"""Music: chords are, alone and under a voice; a voice that glides, one in monotone, hum and noise are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mytalk import media
from mytalk.speech.music import MUSIC, music_T
from tests.helpers.chords import chords
from tests.helpers.sounds import rms

REAL = os.environ.get("MYTALK_REAL_VIDEOS", "")
RANDOM = np.random.default_rng(4)
TIME_S = np.arange(8 * 16_000) / 16_000


def voice(glides: float) -> np.ndarray:
    """Syllables of 14 harmonics, four a second with pauses; the pitch wanders by this share."""
    pitch_hz = 120 * (1 + glides * np.sin(2 * np.pi * 0.7 * TIME_S) * np.sin(2 * np.pi * 1.9 * TIME_S + 1))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / 16_000
    sound_S = sum(np.sin(k * phase) / k for k in range(1, 15))
    return 0.1 * sound_S * np.clip(np.sin(2 * np.pi * 4 * TIME_S) + 0.4, 0, 1)


HUM = 0.02 * sum(np.sin(2 * np.pi * 50 * k * TIME_S) / k for k in range(1, 12))
NOISE = 0.01 * RANDOM.standard_normal(len(TIME_S))


@pytest.mark.parametrize(
    "audio_S",
    [
        pytest.param(voice(0.15), id="voice"),
        pytest.param(voice(0.0), id="voice in monotone"),
        pytest.param(voice(0.15) + HUM, id="voice and hum"),
        pytest.param(voice(0.15) + NOISE, id="voice and noise"),
        pytest.param(HUM, id="hum"),
        pytest.param(NOISE, id="noise"),
        pytest.param(0 * TIME_S, id="silence"),
        pytest.param(1e-4 * chords(RANDOM, 8), id="music at -80 dB"),
    ],
)
def test_no_music_in(audio_S):
    assert (music_T(audio_S) < MUSIC).all()


@pytest.mark.parametrize("below_db", [0, 6, 10])
@pytest.mark.parametrize("glides", [0.0, 0.15])
def test_chords_under_a_voice_are_music(below_db, glides):
    spoken_S = voice(glides)
    audio_S = spoken_S + chords(RANDOM, 8) * rms(spoken_S) * 10 ** (-below_db / 20)
    assert (music_T(audio_S) >= MUSIC).mean() > 0.5


def test_music_is_told_where_it_is():
    audio_S = np.concatenate([0.1 * chords(RANDOM, 8), voice(0.15), 0.1 * chords(RANDOM, 8)])
    found_T = music_T(audio_S) >= MUSIC
    assert len(found_T) == 600
    assert found_T[:170].all()
    assert not found_T[240:360].any()
    assert found_T[430:].all()


def test_a_short_sound_is_not_judged():
    assert np.isnan(music_T(0.1 * chords(RANDOM, 0.9))).all()
    assert music_T(np.zeros(0)).shape == (0,)
    assert (music_T(0.1 * chords(RANDOM, 1.5)) >= MUSIC).all()


@pytest.mark.skipif(not REAL, reason="MYTALK_REAL_VIDEOS names no folder of real videos")
def test_real_speech_is_no_music_and_real_music_is():
    def share(name: str) -> float:
        return float((music_T(media.read_audio(Path(REAL) / name)) >= MUSIC).mean())

    talking = ["eamm_mead", "hdtf_k", "lp_d9", "lp_d11", "lp_d20", "ls_2", "ls_3", "r3_may", "vr_1", "vr_2", "vr_5"]
    names = [f"{name}.mp4" for name in talking] + [path.name for path in Path(REAL).glob("grid_*.mpg")]
    assert {name for name in names if share(name) > 0} == set()
    for name in ("ap_cxk", "ap_num18", "lp_d12", "lp_d14", "lp_s18"):
        assert share(f"{name}.mp4") > 0.5, name

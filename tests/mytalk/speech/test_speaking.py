"""Who speaks: lips that move with the sound score high, others low, whatever the head does; else nothing is known."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from data_pipeline.extract.rules.speech import SpeechRules
from mytalk import media
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.face.smooth import smooth
from mytalk.speech.speaking import speaking
from tests.helpers import faces

REAL = os.environ.get("MYTALK_REAL_VIDEOS", "")
RULES = SpeechRules()
TIME_T = np.arange(250) / 25


def syllables(seed: int) -> np.ndarray:
    """How loud a voice is, 0 to 1, (T,): three to six syllables a second, in phrases."""
    random = np.random.default_rng(seed)
    level_T = np.zeros(len(TIME_T))
    at_s = 0.3
    while at_s < TIME_T[-1]:
        level_T += random.uniform(0.4, 1) * np.exp(-0.5 * ((TIME_T - at_s) / 0.05) ** 2)
        at_s += random.uniform(0.17, 0.33) + 0.6 * (random.random() < 0.12)
    return np.clip(level_T, 0, 1)


def sound(level_T: np.ndarray) -> np.ndarray:
    """Noise as loud as that, on a floor of -60 dB."""
    random = np.random.default_rng(1)
    envelope_S = np.interp(np.arange(len(level_T) * SAMPLES_PER_FRAME) / SAMPLES_PER_FRAME, np.arange(250), level_T)
    return ((0.2 * envelope_S + 0.001) * random.standard_normal(len(envelope_S))).astype(np.float32)


def face(openings_T: np.ndarray, noise_px: float = 0.2) -> np.ndarray:
    """A head that turns, nears and moves, its mouth open so many px; the detector's noise."""
    landmarks_TN3 = faces.turning(faces.opened(openings_T))
    return landmarks_TN3 + noise_px * np.random.default_rng(2).standard_normal(landmarks_TN3.shape)


LEVEL_T = syllables(3)
AUDIO_S = sound(LEVEL_T)
SPEECH_T = np.ones(250)
CHEWING_T = 9 * np.clip(np.sin(2 * np.pi * 1.4 * TIME_T + 0.5 * np.sin(TIME_T)), 0, 1)


@pytest.mark.parametrize("late", [-4, 0, 4])
def test_lips_that_move_with_the_sound_speak_though_it_is_early_or_late(late):
    openings_T = 2 + 10 * np.roll(LEVEL_T, late)
    assert speaking(face(openings_T), AUDIO_S, SPEECH_T) > 2 * RULES.sure_speaking


@pytest.mark.parametrize("other", [5, 6, 7, 8])
def test_anothers_voice_never_scores_as_ones_own(other):
    own = speaking(face(2 + 10 * LEVEL_T), AUDIO_S, SPEECH_T)
    assert speaking(face(2 + 10 * syllables(other)), AUDIO_S, SPEECH_T) < 0.5 * own


def test_a_chewing_face_does_not_speak():
    assert speaking(face(CHEWING_T), AUDIO_S, SPEECH_T) < RULES.sure_speaking


@pytest.mark.parametrize("opening_px", [0.0, 6.0])
def test_a_head_that_turns_with_lips_that_stand_still_scores_0_at_any_length(opening_px):
    listening_TN3 = smooth(face(np.full(250, opening_px)))
    assert speaking(listening_TN3, AUDIO_S, SPEECH_T) == 0
    assert speaking(listening_TN3[:40], AUDIO_S[: 40 * 640], SPEECH_T[:40]) == 0


def test_turning_moves_no_lip():
    """The score is that of the same lips on a head that stands."""
    openings_T = 2 + 10 * LEVEL_T
    standing = speaking(faces.opened(openings_T), AUDIO_S, SPEECH_T)
    assert speaking(face(openings_T, noise_px=0), AUDIO_S, SPEECH_T) == pytest.approx(standing, abs=0.05)


def test_nothing_is_known_of_little_speech_or_of_moving_lips_for_a_moment():
    talking_TN3 = face(2 + 10 * LEVEL_T)
    for speech_T in (np.full(250, np.nan), np.zeros(250), np.where(np.arange(250) < 24, 1.0, 0.0)):
        assert np.isnan(speaking(talking_TN3, AUDIO_S, speech_T))
    assert np.isnan(speaking(talking_TN3[:74], AUDIO_S[: 74 * 640], SPEECH_T[:74]))
    assert speaking(talking_TN3[:75], AUDIO_S[: 75 * 640], SPEECH_T[:75]) > RULES.sure_speaking


def test_a_sound_that_does_not_vary_says_nothing_of_moving_lips():
    """Correlations with it are 0: the score is 0 as well, which the rules of speech do not come to (no_speech)."""
    assert speaking(face(2 + 10 * LEVEL_T), np.zeros(160_000, np.float32), SPEECH_T) == 0


# Drawn and real people -------------------------------------------------------------------------------


def test_drawn_people_speak_and_who_nods_or_is_a_photograph_does_not():
    """Found by the detector in drawn scenes: the figures over many are in docs/log.md."""
    pytest.importorskip("espeakng_loader")
    pytest.importorskip("mediapipe")
    from data_pipeline.synthetic.scenes.scene import scene
    from mytalk.face import detector
    from mytalk.face.track import Tracker

    def score(kind: str) -> dict[str, float]:
        one, tracker = scene(kind, 1), Tracker(detector.load())
        found = [tracker.next(picture) for picture in one.pictures()]
        voice_T, scores = np.array(one.truth["voice"], float), {}
        for number in found[0]:
            landmarks_TN3 = smooth(np.array([seen[number].landmarks_N3 for seen in found]))
            x = landmarks_TN3[0, :, 0].mean()
            who = min(one.truth["people"], key=lambda person: abs(person["box"][0][0] - x))
            scores[who["does"][0]] = speaking(landmarks_TN3, one.audio_S, voice_T)
        return scores

    two = score("two")
    assert two["speaks"] > 0.2
    assert two["nods"] < RULES.min_speaking
    assert score("photograph")["photograph"] < RULES.min_speaking


@pytest.mark.skipif(not REAL, reason="MYTALK_REAL_VIDEOS names no folder of real videos")
@pytest.mark.parametrize("name", ["grid_id2.mpg", "hdtf_k.mp4", "lp_d11.mp4", "r3_may.mp4", "vr_1.mp4"])
def test_no_real_talker_is_said_not_to_speak(name):
    pytest.importorskip("mediapipe")
    from mytalk.face import detector
    from mytalk.face.track import find_faces
    from mytalk.speech.activity import EnergyRule

    path = Path(REAL) / name
    track = find_faces(media.read_frames(path, 25), detector.load(), lambda: None)
    audio_S = media.read_audio(path)
    speech_T = EnergyRule().speech_T(audio_S)
    frames = min(len(track.found_T), len(speech_T), 250)
    score = speaking(smooth(track.landmarks_TN3[:frames]), audio_S[: frames * 640], speech_T[:frames])
    assert score >= RULES.min_speaking

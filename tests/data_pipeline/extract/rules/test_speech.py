"""Labels of speech: the first rule that says no, in order; missing facts say nothing. Facts of sound by frame."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from data_pipeline.extract.clips import Sound
from data_pipeline.extract.rules.speech import SpeechRules, labels, why_silent
from data_pipeline.shards import facts, members
from data_pipeline.shards.facts import ClipData
from tests.helpers import faces

RULES = SpeechRules()
TALKS = {"has_audio": True, "speech": 0.8, "music": 0.0, "speaking": 0.5}


@pytest.mark.parametrize(
    ("changed", "speaks", "why"),
    [
        ({}, True, ""),
        ({"speaking": 0.2}, None, ""),
        ({"speaking": None}, None, ""),
        ({"speech": None, "music": None, "speaking": None}, None, ""),
        ({"music": 0.5, "speech": 0.1, "speaking": 0.3}, True, ""),
        ({"has_audio": False, "speech": 0.0, "music": 1.0, "speaking": 0.0}, False, "no_sound"),
        ({"speech": 0.09, "music": 1.0, "speaking": 0.0}, False, "no_speech"),
        ({"music": 0.51, "speaking": 0.0}, False, "music"),
        ({"speaking": 0.04}, False, "not_speaking"),
    ],
)
def test_the_first_rule_that_says_no(changed, speaks, why):
    assert labels({**TALKS, **changed}, RULES) == {"speaks": speaks, "why_silent": why}
    assert why_silent({**TALKS, **changed}, RULES) == why


def test_facts_that_are_not_there_say_nothing():
    assert labels({}, RULES) == {"speaks": None, "why_silent": ""}


def test_a_threshold_moves_its_rule():
    assert why_silent({**TALKS, "music": 0.9}, SpeechRules(max_music=1.0)) == ""
    assert why_silent({**TALKS, "speaking": 0.2}, SpeechRules(min_speaking=0.25)) == "not_speaking"


@pytest.mark.parametrize("held", ["int16", "float32"])
def test_sound_that_is_held_as_int16_is_what_a_clip_stores(held):
    """Longer than what is converted at once; the second half is silence beyond the end."""
    audio_S = np.random.default_rng(0).normal(0, 0.4, members.AT_ONCE + 1000).clip(-1, 1).astype(np.float32)
    if held == "int16":
        audio_S = members.from_pcm(members.pcm(audio_S).tobytes())
    sound = Sound(members.pcm(audio_S))
    frames = sound.frames
    assert frames == -(-len(audio_S) // 640)
    samples_S = sound.samples(0, 2 * frames)
    assert samples_S.dtype == np.float32
    assert len(samples_S) == 2 * frames * 640
    assert not samples_S[len(audio_S) :].any()
    assert np.abs(samples_S[: len(audio_S)] - audio_S).max() <= (0 if held == "int16" else 1 / 32768)
    assert members.audio_wav(samples_S[: len(audio_S)]) == members.audio_wav(audio_S)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(SpeechRules)])
def test_a_threshold_that_is_no_number_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number"):
        SpeechRules(**{name: value})


def clip(speech_T: list[float], music_T: list[float]) -> ClipData:
    openings_T = np.full(len(faces.WAVE), 4.0)
    audio_S = np.zeros(len(openings_T) * 640, np.float32)
    return ClipData(faces.opened(openings_T), audio_S, [], 1.0, speech_T=np.array(speech_T), music_T=np.array(music_T))


def test_shares_are_of_the_frames_of_which_something_is_known():
    frames, unknown = len(faces.WAVE), float("nan")
    half = clip([0.9] * 10 + [0.1] * 10 + [unknown] * (frames - 20), [0.5] * frames)
    assert (facts.speech(half), facts.music(half)) == (0.5, 1.0)
    assert facts.speaking(half) is None  # ten frames of speech
    nothing = clip([unknown] * frames, [])
    assert (facts.speech(nothing), facts.music(nothing), facts.speaking(nothing)) == (None, None, None)


def test_still_lips_under_a_voice_do_not_speak():
    measured = {"speech": 1.0, "speaking": facts.speaking(clip([1.0] * len(faces.WAVE), []))}
    assert labels(measured, RULES) == {"speaks": False, "why_silent": "not_speaking"}

"""Speech activity: levels and the energy rule against closed forms, Silero's network against a call by hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from data_pipeline import weights
from data_pipeline.extract import hearing
from mytalk import media
from mytalk.speech.activity import EnergyRule, Silero
from mytalk.speech.level import SILENCE_DB, levels_db
from tests.helpers.sounds import tone

REAL = os.environ.get("MYTALK_REAL_VIDEOS", "")
RULE = EnergyRule()


def noise(seconds: float, level_db: float) -> np.ndarray:
    """White noise of that root mean square."""
    samples_S = np.random.default_rng(5).standard_normal(round(seconds * 16_000))
    return (samples_S * 10 ** (level_db / 20)).astype(np.float32)


def test_the_level_of_a_sine_is_3_db_below_its_peak():
    level_T = levels_db(np.append(tone(2, 16_000, 200.0, 0.5), np.zeros(320)))
    assert len(level_T) == 51  # the last frame is half a frame
    np.testing.assert_allclose(level_T[:50], 20 * np.log10(0.5 / np.sqrt(2)), atol=1e-6)
    assert level_T[-1] == SILENCE_DB
    assert levels_db(np.zeros(0, np.float32)).shape == (0,)


def test_minutes_of_sound_have_the_levels_of_their_pieces():
    audio_S = noise(130, -30)
    np.testing.assert_array_equal(levels_db(audio_S)[1400:1600], levels_db(audio_S[1400 * 640 : 1600 * 640]))


@pytest.mark.parametrize(
    "audio_S",
    [
        pytest.param(np.zeros(32_000, np.float32), id="silence"),
        pytest.param(noise(5, -63), id="the noise floor of a recording"),
        pytest.param(noise(5, -20), id="loud steady noise"),
        pytest.param(tone(5, 16_000), id="a held tone"),
        pytest.param(noise(5, -75) * (1 + 9 * (np.arange(80_000) % 16_000 < 8000)), id="noise that swells to -55 dB"),
        pytest.param(np.zeros(0, np.float32), id="nothing"),
    ],
)
def test_the_rule_hears_no_speech_in(audio_S):
    speech_T = RULE.speech_T(audio_S)
    assert len(speech_T) == -(-len(audio_S) // 640)
    assert not speech_T.any()


def test_the_rule_bridges_pauses_and_drops_clicks():
    """Frames of tone among frames of noise at -70 dB: a second, 0.4 s of pause, a second; then two clicks far apart."""
    loud_T = np.zeros(200, bool)
    loud_T[20:45] = loud_T[55:80] = True
    loud_T[[120, 160]] = True
    audio_S = noise(8, -70) + tone(8, 16_000) * np.repeat(loud_T, 640)
    assert np.flatnonzero(RULE.speech_T(audio_S)).tolist() == list(range(20, 80))
    loud_T[44] = False  # a pause one frame longer stays
    audio_S = noise(8, -70) + tone(8, 16_000) * np.repeat(loud_T, 640)
    assert np.flatnonzero(RULE.speech_T(audio_S)).tolist() == [*range(20, 44), *range(55, 80)]


# Silero's network ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> bytes:
    pytest.importorskip("onnxruntime")
    found = weights.content(weights.registered()[hearing.WEIGHTS])
    if found is None:
        pytest.skip("silero-vad is not installed")
    return found


def by_hand(model: bytes, audio_S: np.ndarray) -> np.ndarray:
    """The probability of each block of 512 samples, the last one padded with silence."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    padded_S = np.concatenate([np.zeros(64), audio_S, np.zeros(-len(audio_S) % 512)]).astype(np.float32)
    state, found = np.zeros((2, 1, 128), np.float32), []
    for start in range(0, len(padded_S) - 64, 512):
        inputs = {"input": padded_S[None, start : start + 576], "state": state, "sr": np.array(16_000, np.int64)}
        probability, state = session.run(None, inputs)
        found.append(float(probability[0, 0]))
    return np.array(found)


@pytest.mark.parametrize("samples", [64_000, 20_011, 300])
def test_silero_is_its_network_block_by_block(model, samples):
    """Each sample has the probability of its block; a frame is the mean over its samples."""
    random = np.random.default_rng(1)
    loud_S = np.interp(np.arange(samples), np.arange(17) * 4000, random.random(17))
    audio_S = (loud_S * (tone(5, 16_000, 130.0)[:samples] + 0.2 * random.standard_normal(samples))).astype(np.float32)
    of_sample_S = np.repeat(by_hand(model, audio_S), 512)
    expected_T = [of_sample_S[start : start + 640].mean() for start in range(0, samples, 640)]
    detector = Silero(model)
    np.testing.assert_allclose(detector.speech_T(audio_S), expected_T, atol=1e-6)
    np.testing.assert_array_equal(detector.speech_T(audio_S), detector.speech_T(audio_S))  # no state is left of a file


def test_another_file_than_the_registry_names_is_refused(tmp_path, monkeypatch):
    """And a package that is not there is None."""
    entry = weights.registered()[hearing.WEIGHTS]
    (tmp_path / "otherweights" / "data").mkdir(parents=True)
    (tmp_path / "otherweights" / "__init__.py").write_text("raise RuntimeError('it is found, not imported')")
    (tmp_path / "otherweights" / "data" / "silero_vad.onnx").write_bytes(b"another")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(weights.UserError, match=r"type: pip install silero-vad==6\.2\.3"):
        weights.content(weights.WeightFile(**{**vars(entry), "package": "otherweights"}))
    assert weights.content(weights.WeightFile(**{**vars(entry), "package": "weights_that_are_not_there"})) is None


def test_without_the_package_the_rule_takes_its_place(monkeypatch):
    hearing.speech_detector.cache_clear()
    monkeypatch.setattr(weights, "content", lambda entry: None)
    assert isinstance(hearing.speech_detector(), EnergyRule)
    assert hearing.described() == "energy rule"
    hearing.speech_detector.cache_clear()


@pytest.mark.skipif(not REAL, reason="MYTALK_REAL_VIDEOS names no folder of real videos")
def test_real_people_speak_and_a_noise_floor_does_not(model):
    for detector in (Silero(model), RULE):
        share = {
            path.name: float((detector.speech_T(media.read_audio(path)) >= 0.5).mean())
            for path in [*sorted(Path(REAL).glob("grid_*.mpg")), Path(REAL) / "lp_d9.mp4", Path(REAL) / "hdtf_k.mp4"]
        }
        assert share.pop("lp_d9.mp4") == 0
        assert min(share.values()) > 0.3, share

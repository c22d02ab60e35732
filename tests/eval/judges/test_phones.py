"""The judge of phones: bilabials among phones, silence, and that no sound leaves a trace in the next."""

from __future__ import annotations

import numpy as np
import pytest

from eval.judges import load
from mytalk.speech.phones import Phone, PhoneDecoder, bilabials


def test_lips_close_for_p_b_and_m_alone() -> None:
    spoken = [Phone("P", 0, 0.1), Phone("F", 0.1, 0.2), Phone("M", 0.2, 0.3), Phone("B", 0.3, 0.4), Phone("AH", 0.4, 1)]
    assert bilabials(spoken) == [(0, 0.1), (0.2, 0.3), (0.3, 0.4)]


@pytest.fixture(scope="module")
def judge() -> PhoneDecoder:
    if "phones" in load.missing():
        pytest.skip("pocketsphinx is not installed")
    return load.load(["phones"])["phones"]


@pytest.mark.parametrize("samples", [0, 100, 1599, 1600, 20_000])
def test_silence_of_any_length_has_no_phones(judge, samples) -> None:
    assert judge.phones(np.zeros(samples, np.float32)) == []


def test_what_was_heard_before_changes_nothing_and_times_lie_in_the_sound(judge) -> None:
    """How well it hears drawn voices is no promise: docs/log.md."""
    random = np.random.default_rng(0)
    hum_S = np.sin(2 * np.pi * 140 * np.arange(16_000) / 16_000) * np.repeat(random.random(20), 800)
    sound_S = (0.3 * hum_S + 0.05 * random.standard_normal(16_000)).astype(np.float32)
    first = judge.phones(sound_S)
    judge.phones(sound_S[::-1].copy())
    assert judge.phones(sound_S) == first
    assert all(0 <= one.start_s < one.stop_s <= 1.05 for one in first)

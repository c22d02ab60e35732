"""The leak of a copied mouth, and of an honest one."""

from __future__ import annotations

import numpy as np
import pytest

from eval.metrics import measure_rows
from eval.metrics.landmarks import leak as leaks
from eval.metrics.landmarks.leak import leak
from eval.metrics.landmarks.speech import envelope_db
from eval.metrics.metric import Comparison, DetectedVideo, Miss, NotAsked, Truth
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers.faces import opened

FRAMES = 120


def sound(seed: int, level: float = 0.1) -> np.ndarray:
    """Noise whose loudness wanders."""
    random = np.random.default_rng(seed)
    gain_T = np.exp(np.convolve(random.normal(0, 1.5, FRAMES + 4), np.ones(5) / 5, "valid"))
    return level * np.repeat(gain_T, SAMPLES_PER_FRAME) * random.standard_normal(FRAMES * SAMPLES_PER_FRAME)


def mouth(sound_S: np.ndarray, seed: int, noise: float = 1.0) -> np.ndarray:
    """A mouth that opens with a sound, and a little as it likes."""
    envelope_T = envelope_db(sound_S, FRAMES)
    return (
        8
        + 2 * (envelope_T - envelope_T.mean()) / envelope_T.std()
        + np.random.default_rng(seed).normal(0, noise, FRAMES)
    )


OWN, OTHER, SILENCE = sound(1), sound(2), np.zeros(FRAMES * SAMPLES_PER_FRAME)
ORIGINAL = mouth(OWN, 3)


@pytest.mark.parametrize("heard", [OTHER, SILENCE], ids=["swapped", "silent"])
def test_a_copied_mouth_leaks_wholly_and_beyond_what_the_sounds_explain(heard) -> None:
    found = leak(ORIGINAL, ORIGINAL, OWN, heard)
    assert found.correlation == pytest.approx(1)
    assert found.excess > 0.15, "what the original does that its own sound does not tell"


def test_a_mouth_that_hears_another_sound_leaks_nothing() -> None:
    excess = [
        leak(mouth(sound(s), s + 1), mouth(sound(s + 2), s + 3), sound(s), sound(s + 2)).excess for s in range(20)
    ]
    assert abs(np.mean(excess)) < 0.03
    assert np.abs(excess).max() < 0.2


def test_two_like_sounds_are_no_leak_though_the_mouths_correlate() -> None:
    quieter = 0.5 * OWN
    found = leak(ORIGINAL, mouth(quieter, 9), OWN, quieter)
    assert found.correlation > 0.6
    assert abs(found.excess) < 0.12


def test_the_parts_add_up_to_the_correlation() -> None:
    """Against the projection computed otherwise, by an orthonormal basis."""
    row = mouth(OTHER, 5) + 0.5 * ORIGINAL
    columns = []
    for heard in (OWN, OTHER):
        envelope_T = envelope_db(heard, FRAMES)
        for shift in leaks.SHIFTS_FRAMES:
            column = envelope_T[[min(max(t - shift, 0), FRAMES - 1) for t in range(FRAMES)]]
            columns.append(column - column.mean())
    basis, _ = np.linalg.qr(np.stack(columns, axis=1))
    a, b = row - row.mean(), ORIGINAL - ORIGINAL.mean()
    explained = (basis.T @ a) @ (basis.T @ b) / np.linalg.norm(a) / np.linalg.norm(b)
    found = leak(ORIGINAL, row, OWN, OTHER)
    assert found.correlation == pytest.approx(np.corrcoef(row, ORIGINAL)[0, 1])
    assert found.excess == pytest.approx(found.correlation - explained, abs=1e-9)


def test_a_still_mouth_leaks_nothing_and_a_still_original_or_a_short_clip_is_refused() -> None:
    assert leak(ORIGINAL, np.full(FRAMES, 5.0), OWN, OTHER) == leaks.Leak(0, 0)
    with pytest.raises(Miss, match="does not move"):
        leak(np.full(FRAMES, 5.0), ORIGINAL, OWN, OTHER)
    with pytest.raises(Miss, match="needs 44"):
        leak(ORIGINAL[:43], ORIGINAL[:43], OWN[: 43 * SAMPLES_PER_FRAME], OTHER[: 43 * SAMPLES_PER_FRAME])


def test_it_is_measured_in_the_rows_of_another_sound_and_of_all_rows_where_the_audio_is_another() -> None:
    frames, face = np.zeros((FRAMES, 8, 8, 3), np.uint8), opened(ORIGINAL)
    video = DetectedVideo(frames, face, np.ones(FRAMES, bool), OTHER)
    own = DetectedVideo(frames, face, np.ones(FRAMES, bool))
    truth = Truth(frames, face, OWN, face)
    rows = {"mytalk": Comparison(truth, own), "shuffled_audio": Comparison(truth, video)}
    values, omitted = measure_rows(rows, leaks.METRICS)
    assert omitted == {}
    assert values["mytalk"] == {}
    assert values["shuffled_audio"]["mouth_leak"] == pytest.approx(1, abs=1e-4)
    spoken = Truth(frames, face, OTHER, face, original_S=OWN)
    crossed, omitted = measure_rows({"any": Comparison(spoken, own)}, leaks.METRICS)
    assert crossed["any"] == pytest.approx(values["shuffled_audio"])
    with pytest.raises(NotAsked):
        leaks.row_leak(Comparison(truth, own))

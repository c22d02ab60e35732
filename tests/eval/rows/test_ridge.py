"""The row `ridge`: the closed form against plain least squares, who is left out, and what it reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.metrics.lips import aligned, opening_correlation
from eval.rows import ridge
from eval.rows.inputs import read_inputs
from eval.tasks import Settings, plan_tasks
from mytalk.dub import long_form
from mytalk.face.landmarks import NOISED, SAMPLES_PER_FRAME, without_mouth
from tests.helpers import needs, talkers


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """Three people of two clips to train, two unseen."""
    return Manifest.load(talkers.write(tmp_path_factory.mktemp("shards"), {"train": 3, "unseen": 2}, frames=60))


def plain(x_TF: np.ndarray, y_TY: np.ndarray, penalty: float) -> np.ndarray:
    """Ridge regression as least squares with the penalty as further rows."""
    level = penalty * np.square(x_TF).sum() / x_TF.shape[1]
    rows = np.sqrt(level) * np.eye(x_TF.shape[1])
    return np.linalg.lstsq(np.concatenate([x_TF, rows]), np.pad(y_TY, ((0, len(rows)), (0, 0))), rcond=None)[0]


def frames_of(manifest: Manifest, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Features and lower face of a clip, each minus its mean."""
    landmarks = reader.read_landmarks(manifest, row)
    lower = long_form.lower_face(landmarks, long_form.person_head(landmarks)).reshape(len(landmarks), -1)
    return ridge.features(reader.read_audio(manifest, row)), lower - lower.mean(0)


def test_weights_and_penalty_are_those_of_plain_least_squares_with_each_person_left_out_in_turn(
    manifest, monkeypatch
) -> None:
    monkeypatch.setattr(ridge, "PENALTIES", [0.01, 0.3, 100.0])
    clips = {row: frames_of(manifest, row) for row in manifest.rows("train").tolist()}
    person_of = manifest.column("identity")

    def stacked(rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([clips[row][0] for row in rows]), np.concatenate([clips[row][1] for row in rows])

    errors = np.zeros(len(ridge.PENALTIES))
    for person in dict.fromkeys(person_of[list(clips)]):
        x, y = stacked([row for row in clips if person_of[row] != person])
        x_out, y_out = stacked([row for row in clips if person_of[row] == person])
        errors += [np.square(y_out - x_out @ plain(x, y, penalty)).sum() for penalty in ridge.PENALTIES]
    x, y = stacked(list(clips))
    best = int(errors.argmin())
    fitted = ridge.fit(manifest)
    assert fitted.facts["penalty"] == ridge.PENALTIES[best]
    assert fitted.facts["explained_of_people_left_out"] == pytest.approx(1 - errors[best] / np.square(y).sum())
    assert (fitted.facts["clips"], fitted.facts["people"], fitted.facts["frames"]) == (6, 3, len(x))
    expected = plain(x, y, ridge.PENALTIES[best]).reshape(fitted.weights_FKD.shape)
    np.testing.assert_allclose(fitted.weights_FKD, expected, rtol=1e-6, atol=1e-9)


def test_features_are_the_frame_and_three_on_each_side_without_their_mean() -> None:
    audio_S = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * SAMPLES_PER_FRAME)
    whole, bands = ridge.features(audio_S), 80
    assert whole.shape == (20, 7 * bands)
    np.testing.assert_allclose(whole.mean(0), 0, atol=1e-12)
    centre = whole[:, 3 * bands : 4 * bands]
    for shift in range(-3, 4):
        part = whole[:, (3 + shift) * bands : (4 + shift) * bands]
        inside = slice(max(-shift, 0), 20 - max(shift, 0))
        moved = centre[max(shift, 0) : 20 + min(shift, 0)]
        np.testing.assert_allclose(part[inside] - part[inside].mean(0), moved - moved.mean(0), atol=1e-9)


def test_unseen_mouths_that_open_with_loudness_are_followed_and_never_read(manifest) -> None:
    fitted, random = ridge.fit(manifest), np.random.default_rng(0)
    for task in plan_tasks(manifest, Settings()):
        inputs = read_inputs(manifest, Settings(), task)
        written = fitted.landmarks(without_mouth(inputs.truth_TN3), inputs.source_UN3, inputs.audio_S)
        assert np.array_equal(np.delete(written, NOISED, axis=1), np.delete(inputs.truth_TN3, NOISED, axis=1))
        assert opening_correlation(aligned(inputs.truth_TN3, written)) > 0.7
        garbage = inputs.truth_TN3.copy()
        garbage[:, NOISED] = random.uniform(0, 256, garbage[:, NOISED].shape)
        assert np.array_equal(fitted.landmarks(garbage, inputs.source_UN3, inputs.audio_S), written)


def test_a_damaged_clip_is_left_out_and_counted_until_one_person_is_left(tmp_path) -> None:
    folder = talkers.write(tmp_path, {"train": 2, "unseen": 1})
    manifest = Manifest.load(folder)
    rows = manifest.rows("train").tolist()

    def damage(row: int) -> None:
        talkers.overwrite(manifest, row, np.full_like(reader.read_landmarks(manifest, row), np.nan))

    damage(rows[0])
    facts = ridge.fit(manifest).facts
    assert (facts["clips"], facts["damaged_clips"]) == (3, 1)
    damage(rows[1])  # nobody is left to choose the penalty on
    with pytest.raises(ClipError, match="not finite"):
        ridge.fit(manifest)


def test_a_clip_without_a_head_in_some_frame_is_damaged(tmp_path) -> None:
    """Zeros stand for "no face" in many corpora: no pose follows from them, and no weights may."""
    manifest = Manifest.load(talkers.write(tmp_path, {"train": 3}))
    row = int(manifest.rows("train")[0])
    landmarks = reader.read_landmarks(manifest, row)
    landmarks[5] = 0
    talkers.overwrite(manifest, row, landmarks)
    fitted = ridge.fit(manifest)
    assert fitted.facts["damaged_clips"] == 1
    assert np.isfinite(fitted.weights_FKD).all()


def test_where_clips_are_too_many_each_person_gives_as_many(manifest, monkeypatch) -> None:
    everyone = ridge.digest(manifest)
    monkeypatch.setattr(ridge, "MOST_CLIPS", 3)
    fitted = ridge.fit(manifest)
    assert (fitted.facts["people"], fitted.facts["clips"]) == (3, 3)
    assert ridge.digest(manifest) != everyone


def test_speech_that_never_changes_moves_nothing() -> None:
    sums = ridge.Sums.of(np.zeros((5, 3)), np.ones((5, 2)))
    assert np.array_equal(sums.weights(1.0), np.zeros((3, 2)))
    assert ridge.choose_penalty([sums, sums])[1] == 0


@pytest.mark.full
@needs.drawn_people
def test_drawn_people_never_seen_are_followed(command, tmp_path: Path) -> None:
    size = ("--identities", "16", "--clips-per-identity", "2", "--seed", "0", "--seconds", "5")
    command("-m", "data_pipeline", "demo", str(tmp_path / "videos"), *size, check=True)
    command("-m", "data_pipeline", "extract", str(tmp_path / "videos"), str(tmp_path / "shards"), check=True)
    command("-m", "data_pipeline", "split", str(tmp_path / "shards"), check=True)
    manifest = Manifest.load(tmp_path / "shards")
    fitted, correlations = ridge.fit(manifest), []
    for task in plan_tasks(manifest, Settings()):
        inputs = read_inputs(manifest, Settings(), task)
        written = fitted.landmarks(without_mouth(inputs.truth_TN3), inputs.source_UN3, inputs.audio_S)
        correlations.append(opening_correlation(aligned(inputs.truth_TN3, written)))
    assert np.mean(correlations) > 0.4

"""The rows of `motion`: no truth reaches the model, the frozen mouth, and clips that cannot be scored."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from eval.metrics import LANDMARK_METRICS, lips, measure
from eval.metrics.metric import Miss
from eval.rows import inputs, landmarks
from eval.rows.landmarks import frozen_mouth, generated
from eval.tasks import ScoringTask, Settings, Window, plan_tasks
from mytalk.face import pose
from mytalk.face.landmarks import COUNT, NOISED
from mytalk.networks.motion.files import load_model
from mytalk.networks.motion.generation import SourceStretch, generate
from tests.helpers import talkers
from tests.helpers.faces import WAVE, opened, still, turning

SETTINGS = Settings(sampler_steps=3)


def test_the_frozen_mouth_is_constant_on_a_moving_head_and_keeps_the_upper_face() -> None:
    truth = turning(opened(WAVE))
    frozen = frozen_mouth(truth)
    pair = lips.aligned(truth, frozen)
    truth_T, frozen_T = pair.openings()
    assert truth_T.std() > 1
    assert frozen_T.std() < 1e-4
    assert np.array_equal(np.delete(frozen, NOISED, axis=1), np.delete(truth, NOISED, axis=1))
    assert measure(LANDMARK_METRICS, pair)["opening_correlation"] == 0


def test_the_frozen_mouth_of_a_still_clip_is_the_clip() -> None:
    assert np.allclose(frozen_mouth(turning(still(30))), turning(still(30)))


def test_a_frozen_mouth_on_a_head_that_nods_as_the_mouth_opens_does_not_follow_it() -> None:
    """In the picture it would: the mesh reads an opening mouth as a nod."""
    mouth = opened(WAVE)
    points = torch.from_numpy(mouth)[None]
    head = pose.person_head(points, torch.ones(points.shape[:2], dtype=torch.float64))
    upright = pose.fit(points, head.rigid_BR3).upright(points)
    nod = torch.from_numpy(0.4 + 0.05 * (WAVE - WAVE.mean()))[None]
    angles = torch.stack([torch.zeros_like(nod), nod, torch.zeros_like(nod)], dim=-1)
    shift = torch.zeros(1, len(WAVE), 3, dtype=torch.float64) + 128
    truth = pose.from_angles(torch.ones_like(nod), angles, shift).place(upright)[0].numpy()
    frozen = frozen_mouth(truth)
    in_the_picture = lips.LipPair(truth, frozen)
    assert abs(lips.opening_correlation(in_the_picture)) > 0.3
    task = ScoringTask("key", "person", Window(0, 0, len(truth)), None, False)
    scored = landmarks.measured(task, truth, {"frozen_mouth": frozen})
    assert scored.methods["frozen_mouth"]["opening_correlation"] == 0


def test_garbage_in_the_scored_mouth_changes_no_generated_landmark(shards, model, tmp_path) -> None:
    folder = talkers.write(tmp_path / "shards", {"unseen": 2})
    network = load_model(model)
    manifest = Manifest.load(folder)
    random = np.random.default_rng(0)
    for task in plan_tasks(manifest, SETTINGS):
        read = inputs.read_inputs(manifest, SETTINGS, task, network.column)
        truth, before = read.truth_TN3, landmarks.rows_of(read, SETTINGS, task, network)
        garbage = truth.copy()
        garbage[:, NOISED] = random.uniform(0, 256, garbage[:, NOISED].shape)
        talkers.overwrite(manifest, task.scored.row, garbage)
        read = inputs.read_inputs(manifest, SETTINGS, task, network.column)
        after = landmarks.rows_of(read, SETTINGS, task, network)
        assert np.array_equal(before["mytalk"], after["mytalk"])
        assert np.array_equal(before["shuffled_audio"], after["shuffled_audio"])
        assert not np.array_equal(before["frozen_mouth"], after["frozen_mouth"]), "the garbage is really there"
        assert not np.array_equal(before["mytalk"], before["shuffled_audio"]), "the speech decides"
        talkers.overwrite(manifest, task.scored.row, truth)


def test_generate_itself_reads_no_true_mouth(shards, model) -> None:
    """`generated` erases the mouth first; without that the outcome must be the same."""
    network, manifest = load_model(model), Manifest.load(shards)
    row = int(manifest.rows("unseen")[0])
    truth, audio = reader.read_landmarks(manifest, row), reader.read_audio(manifest, row)
    source, source_audio = reader.read_landmarks(manifest, row + 1), reader.read_audio(manifest, row + 1)
    erased = generated(network, truth, source, source_audio, audio, seed=1, steps=3)
    assert np.array_equal(erased, generate(network, truth, SourceStretch(source, source_audio), audio, seed=1, steps=3))


def test_a_still_truth_and_a_person_without_a_source_are_misses(model, tmp_path) -> None:
    shards = talkers.write(tmp_path / "shards", {"unseen": 2}, clips_each=1)
    manifest = Manifest.load(shards)
    network = load_model(model)
    for task in plan_tasks(manifest, SETTINGS):  # 40 frames: too few for 50 of source
        assert landmarks.score(manifest, SETTINGS, task, network).reason == inputs.NO_SOURCE
    first = int(manifest.rows("unseen")[0])
    truth = reader.read_landmarks(manifest, first)
    talkers.overwrite(manifest, first, np.repeat(truth[:1], len(truth), axis=0))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    reasons = [landmarks.score(manifest, settings, task, network).reason for task in plan_tasks(manifest, settings)]
    assert reasons == [lips.STILL, None]


def test_a_lone_clip_has_no_other_speech_and_a_model_of_nans_misses(model, tmp_path) -> None:
    manifest = Manifest.load(talkers.write(tmp_path, {"train": 2, "unseen": 1}, clips_each=1))
    settings = dataclasses.replace(SETTINGS, source_frames=10)
    network = load_model(model)
    task = plan_tasks(manifest, settings)[0]
    assert landmarks.score(manifest, settings, task, network).reason == inputs.NO_OTHER_SPEECH
    truth = reader.read_landmarks(manifest, task.scored.row)
    with pytest.raises(Miss, match="not finite"):
        landmarks.measured(task, truth, {"mytalk": np.full((len(truth), COUNT, 3), np.nan)})

"""The sync metrics, with a SyncNet that a test replaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eval.metrics import measure_video, sync
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks import syncnet
from tests.helpers.coded_films import SYNC
from tests.helpers.faces import WAVE, opened


def test_sync_is_measured_against_the_true_speech_and_offsets_have_no_sign(monkeypatch) -> None:
    audio: list[Any] = []

    def fake(model, landmarks_TN3, audio_S):
        audio.append(audio_S)
        return syncnet.SyncScore(distance=0.9, confidence=0.4, offset_frames=-3, windows=1)

    monkeypatch.setattr(syncnet, "score", fake)
    audio_S = np.arange(40 * SAMPLES_PER_FRAME, dtype=np.float32)
    frames = np.zeros((40, 256, 256, 3), np.uint8)
    truth = Truth(frames, opened(WAVE), audio_S, opened(WAVE))
    video = DetectedVideo(frames, opened(WAVE), np.ones(40, bool))
    scores = measure_video(Comparison(truth, video, Evaluators(syncnet=syncnet.SyncNet(SYNC))))
    assert audio[0] is audio_S
    assert [scores[name] for name in sync.METRICS] == [0.4, 0.9, 3.0, -3.0]
    assert "identity_cosine" not in scores
    assert not set(sync.METRICS) & set(measure_video(Comparison(truth, video)))


def test_a_clip_that_is_too_short_for_the_offsets_is_a_miss() -> None:
    landmarks, frames = opened(WAVE[:8]), np.zeros((8, 8, 8, 3), np.uint8)
    truth = Truth(frames, landmarks, np.zeros(8 * SAMPLES_PER_FRAME, np.float32), landmarks)
    video = DetectedVideo(frames, landmarks, np.ones(8, bool))
    evaluators = Evaluators(syncnet=syncnet.SyncNet(SYNC).eval())
    with pytest.raises(Miss) as refused:
        sync.sync_score(Comparison(truth, video, evaluators))
    assert refused.value.reason == sync.TOO_SHORT

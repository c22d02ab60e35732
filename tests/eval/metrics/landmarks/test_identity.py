"""The identity metric, with an encoder of random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eval.metrics.landmarks.identity import identity_cosine
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Truth
from mytalk.networks import identity
from tests.helpers.coded_films import IDENTITY
from tests.helpers.faces import WAVE, opened


def cosine(encoder, source_UN3: np.ndarray, landmarks_TN3: np.ndarray, detected_T: np.ndarray | None = None) -> float:
    """The metric of a row with these landmarks."""
    detected_T = np.ones(len(landmarks_TN3), bool) if detected_T is None else detected_T
    no_frames = np.zeros((len(landmarks_TN3), 0, 0, 3), np.uint8)
    truth = Truth(no_frames, source_UN3, np.zeros(0), source_UN3)
    video = DetectedVideo(no_frames, landmarks_TN3, detected_T)
    return identity_cosine(Comparison(truth, video, Evaluators(identity=encoder)))


def test_the_same_person_has_cosine_1_and_masked_frames_say_nothing() -> None:
    torch.manual_seed(0)
    encoder = identity.IdentityEncoder(IDENTITY).eval()
    landmarks = opened(WAVE)
    assert cosine(encoder, landmarks, landmarks) == pytest.approx(1, abs=1e-5)
    other = opened(WAVE)
    other[:, 100:300] *= 1.4
    apart = cosine(encoder, landmarks, other)
    assert apart < 0.999
    detected_T = np.ones(40, bool)
    detected_T[20:] = False
    repeated = other.copy()
    repeated[20:] = repeated[19]
    jumps = other.copy()
    jumps[20:] = landmarks[20:] * 3
    masked = [cosine(encoder, landmarks, points, detected_T) for points in (repeated, jumps)]
    assert masked[0] == pytest.approx(masked[1], abs=1e-5)

"""The sync metrics, with a SyncNet that a test replaces."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eval.metrics import evaluators, measure_rows, measure_videos, sync
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from mytalk.command import UserError
from mytalk.face.landmarks import MOUTH, SAMPLES_PER_FRAME, opening
from mytalk.networks import syncnet
from mytalk.networks.reader import mouths
from tests.helpers.appearance_models import pixel_syncnet
from tests.helpers.coded_films import SYNC
from tests.helpers.faces import WAVE, opened


def test_sync_is_measured_against_the_true_speech_and_offsets_have_no_sign(monkeypatch) -> None:
    audio: list[Any] = []

    def fake(model, landmarks_TN3, audio_S, speech):
        audio.append(audio_S)
        return syncnet.SyncScore(0.9, 0.4, offset_frames=-3, windows=1, accuracy=0.8)

    monkeypatch.setattr(syncnet, "score", fake)
    audio_S = np.arange(40 * SAMPLES_PER_FRAME, dtype=np.float32)
    frames = np.zeros((40, 256, 256, 3), np.uint8)
    truth = Truth(frames, opened(WAVE), audio_S, opened(WAVE))
    video = DetectedVideo(frames, opened(WAVE), np.ones(40, bool))
    rows = {"row": Comparison(truth, video, Evaluators(syncnet=syncnet.SyncNet(SYNC)))}
    scores = measure_videos(rows)[0]["row"]
    assert audio[0] is audio_S
    by_landmarks = [name for name in sync.METRICS if "@" not in name]
    assert [scores[name] for name in by_landmarks] == [0.8, 0.4, 0.9, 3.0, -3.0]
    assert set(scores) & set(sync.METRICS) == set(by_landmarks)
    assert "identity_cosine" not in scores
    assert not set(sync.METRICS) & set(measure_videos({"row": Comparison(truth, video)})[0]["row"])


def test_a_clip_that_is_too_short_for_the_offsets_is_a_miss() -> None:
    landmarks, frames = opened(WAVE[:8]), np.zeros((8, 8, 8, 3), np.uint8)
    truth = Truth(frames, landmarks, np.zeros(8 * SAMPLES_PER_FRAME, np.float32), landmarks)
    video = DetectedVideo(frames, landmarks, np.ones(8, bool))
    evaluators = Evaluators(syncnet=syncnet.SyncNet(SYNC).eval())
    with pytest.raises(Miss) as refused:
        sync.sync_score(Comparison(truth, video, evaluators))
    assert refused.value.reason == sync.TOO_SHORT


class Hears(torch.nn.Module):
    """Stands in for a trained SyncNet: lips and speech of one moment have one embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SYNC
        self.frequency = torch.nn.Parameter(torch.linspace(0.2, 2, 16, dtype=torch.float64), requires_grad=False)

    def mouth(self, landmarks_BTN3: torch.Tensor) -> torch.Tensor:
        return self.embedded(torch.from_numpy(opening(landmarks_BTN3[0].numpy()).astype(float)))

    def speech(self, audio_BS: torch.Tensor) -> torch.Tensor:
        return self.embedded(100 * audio_BS[0].double().reshape(-1, SAMPLES_PER_FRAME).square().mean(1).sqrt())

    def embedded(self, values_T: torch.Tensor) -> torch.Tensor:
        windows_WF = values_T.unfold(0, self.config.window_frames, 1).flatten(1)
        angles = (windows_WF[:, :, None] * self.frequency).flatten(1)
        return torch.nn.functional.normalize(torch.cat([angles.cos(), angles.sin()], dim=1), dim=1)[None]


@pytest.mark.parametrize("frames", range(-5, 6))
def test_a_planted_offset_is_found_with_its_sign(frames) -> None:
    """The speech of frame t stands at t - `frames`: above 0 it is that much ahead of the mouth."""
    wave = np.random.default_rng(0).uniform(2, 12, 80)
    heard = np.repeat(np.roll(wave, -frames) / 100, SAMPLES_PER_FRAME).astype(np.float32)
    pictures, face = np.zeros((80, 64, 64, 3), np.uint8), opened(wave)
    row = Comparison(
        Truth(pictures, face, heard, face),
        DetectedVideo(pictures, face, np.ones(80, bool)),
        Evaluators(syncnet=Hears()),
    )
    asked = {name: metric for name, metric in sync.METRICS.items() if metric.needs == "syncnet"}
    values = measure_rows({"": row}, asked)[0][""]
    assert values["sync_offset_signed_frames"] == frames
    assert values["sync_offset_frames"] == abs(frames)
    assert values["sync_confidence"] > 0.5
    assert values["sync_distance"] < 0.05
    assert (values["sync_accuracy"] > 0.95) == (frames == 0)


@pytest.mark.parametrize(
    ("of_people", "said"),
    [
        ((0.9, 0.8, 0.85), ""),
        ((0.64, 0.62, 0.66), "BELOW WHAT IT MUST REACH (0.75): 0.64 [0.59, 0.69] over 3 people"),
        ((0.9, 0.3, 0.8), "AT CHANCE: 0.67 ["),
        ((0.9,), "NOT SHOWN TO BE ABOVE CHANCE: 0.90 no interval over 1 person"),
    ],
)
def test_offset_and_confidence_are_unknown_where_the_real_videos_do_not_prove_the_syncnet(of_people, said) -> None:
    by_pixels = {"sync_accuracy@pixels": 0.9}
    clips = [(f"p{n}", {"sync_accuracy": value, **(by_pixels if n else {})}) for n, value in enumerate(of_people)]
    found = sync.unknown([*clips, *clips, ("without it", {}), ("more", by_pixels)])
    named = {name for name in sync.METRICS if "@" not in name and name != sync.ACCURACY}
    assert {name for name in found if "@" not in name} == (named if said else set())
    assert all(words.startswith(f"unknown: on the real videos the SyncNet is {said}") for words in found.values())


@pytest.mark.parametrize("frames", [-15, 15])
def test_the_furthest_offsets_are_found_too(frames) -> None:
    wave = np.random.default_rng(1).uniform(2, 12, 80)
    heard = np.repeat(np.roll(wave, -frames) / 100, SAMPLES_PER_FRAME).astype(np.float32)
    assert syncnet.score(Hears(), opened(wave), heard).offset_frames == frames


def test_speech_that_is_kept_for_all_rows_changes_no_score() -> None:
    torch.manual_seed(0)
    model = syncnet.SyncNet(SYNC).eval()
    audio_S = np.random.default_rng(0).standard_normal(40 * SAMPLES_PER_FRAME).astype(np.float32)
    kept = syncnet.embedded_speech(model, audio_S)
    asked = syncnet.score(model, opened(WAVE), audio_S, speech=lambda: kept)
    assert asked == syncnet.score(model, opened(WAVE), audio_S)


def test_pixels_are_scored_whatever_the_detector_says_of_the_lips(tmp_path) -> None:
    """The score of the mouths' crops; the lips' landmarks move, and it stays. Neither SyncNet passes for the other."""
    folder = pixel_syncnet(tmp_path / "pixels")
    network = syncnet.load_model(folder, sees=syncnet.PIXELS)
    random = np.random.default_rng(0)
    frames, audio_S = random.integers(0, 255, (24, 256, 256, 3), np.uint8), random.normal(size=24 * SAMPLES_PER_FRAME)
    landmarks, moved = opened(WAVE[:24]), opened(WAVE[:24])
    moved[:, MOUTH] += 9
    truth = Truth(frames, landmarks, audio_S.astype(np.float32), landmarks)
    judges = Evaluators(pixels=network)
    scores = [
        measure_videos({"row": Comparison(truth, DetectedVideo(frames, seen, np.ones(24, bool)), judges)})[0]["row"]
        for seen in (landmarks, moved)
    ]
    expected = syncnet.score(network, mouths(frames, landmarks, network.config.side).numpy(), truth.audio_S)
    for score in scores:
        assert score["sync_confidence@pixels"] == pytest.approx(expected.confidence)
        assert score["sync_offset_signed_frames@pixels"] == expected.offset_frames
        assert "sync_confidence" not in score
    assert "sync_distance@pixels" not in evaluators.refused({"pixels": folder}, {})
    with pytest.raises(UserError, match="holds a SyncNet that sees pixels, and one that sees landmarks is needed"):
        evaluators.refused({"syncnet": folder}, {})
    syncnet.save_model(syncnet.SyncNet(SYNC).state_dict(), SYNC, tmp_path)
    with pytest.raises(UserError, match="holds a SyncNet that sees landmarks, and one that sees pixels is needed"):
        evaluators.refused({"pixels": tmp_path}, {})

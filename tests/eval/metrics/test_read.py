"""Lips as the reader of pixels sees them: what it is shown decides, and the detector's lips do not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from eval.metrics import read
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from mytalk.face.landmarks import MOUTH
from mytalk.networks import reader
from tests.helpers.faces import WAVE, opened

FACE = opened(np.array([5.0]))[0]


class LevelReader(nn.Module):
    """A reader to whom a brighter crop is a wider opening; it counts what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.config = reader.ReaderConfig(side=16, channels=[4, 4, 4, 4])
        self.closed = nn.Parameter(torch.zeros(len(MOUTH), 2))
        self.shown = 0

    def forward(self, crops_B3SS: torch.Tensor) -> torch.Tensor:
        self.shown += len(crops_B3SS)
        lips_BM2 = self.closed.expand(len(crops_B3SS), -1, -1).clone()
        lips_BM2[:, reader.OPENS[1], 1] += crops_B3SS.mean((1, 2, 3))[:, None] + 1
        return lips_BM2


def grey(levels_T: np.ndarray) -> np.ndarray:
    return np.broadcast_to(levels_T.astype(np.uint8)[:, None, None, None], (len(levels_T), 256, 256, 3))


def compared(shown_T: np.ndarray, judge: nn.Module) -> Comparison:
    """A clip as bright as WAVE, a row as bright as this; the detector sees one and the same mouth in both."""
    landmarks_TN3 = np.repeat(FACE[None], len(WAVE), axis=0)
    truth = Truth(grey(100 + 4 * WAVE), landmarks_TN3, np.zeros(0), landmarks_TN3)
    video = DetectedVideo(grey(shown_T), landmarks_TN3, np.ones(len(WAVE), bool))
    return Comparison(truth, video, Evaluators(reader=judge))


def values(row: Comparison) -> dict[str, float]:
    names = ("opening_error_px@reader", "opening_correlation@reader", "amplitude_ratio@reader", "lmd_px@reader")
    return {name.partition("@")[0]: read.METRICS[name].compute(row) for name in names}


def test_what_the_pixels_show_is_measured_though_the_landmarks_are_alike() -> None:
    alike, wider = (values(compared(100 + times * WAVE, LevelReader())) for times in (4, 6))
    assert alike == pytest.approx({"opening_error_px": 0, "opening_correlation": 1, "amplitude_ratio": 1, "lmd_px": 0})
    half_px = float(reader.place(torch.from_numpy(FACE[None, :, :2]).float()).half_px_B)
    moved = np.floor(100 + 6 * WAVE) - np.floor(100 + 4 * WAVE)
    assert wider["opening_error_px"] == pytest.approx(np.abs(moved).mean() / 127.5 * half_px, rel=1e-3)
    assert wider["amplitude_ratio"] == pytest.approx(1.5, abs=0.05)
    assert values(compared(100 + 4 * np.roll(WAVE, 4), LevelReader()))["opening_correlation"] < 0.9


def test_the_truth_is_read_once_for_all_rows_and_lost_frames_are_left_out() -> None:
    judge = LevelReader()
    row = compared(100 + 4 * WAVE, judge)
    values(row)
    values(dataclasses.replace(row))
    assert judge.shown == 3 * len(WAVE), "the truth, and each of two rows"
    lost = dataclasses.replace(row, video=dataclasses.replace(row.video, detected_T=np.zeros(len(WAVE), bool)))
    with pytest.raises(Miss, match="no frame shows a face"):
        read.lips_read(lost)

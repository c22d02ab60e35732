"""LipScore from a file that the user brings: what the network is shown, what is made of it, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.judges import lip_reading
from eval.judges.lip_reading import LipReadingJudge
from eval.metrics import read
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Truth
from mytalk.command import UserError
from tests.helpers.faces import opened
from tests.helpers.onnx_files import channel_means, row_means

pytest.importorskip("onnxruntime")
FRAMES = 6
FACES = opened(np.zeros(FRAMES))


@pytest.fixture
def judge(tmp_path: Path) -> LipReadingJudge:
    """A network whose features of a frame are the means of its rows."""
    (tmp_path / "net").write_bytes(row_means(lip_reading.SIDE_PX))
    return LipReadingJudge({lip_reading.NAME: tmp_path / "net"})


def grey(levels_T: np.ndarray) -> np.ndarray:
    return np.broadcast_to(levels_T[:, None, None, None], (FRAMES, 256, 256, 3)).astype(np.uint8)


def test_it_is_shown_each_frame_of_the_mouth_as_its_reader_is(judge) -> None:
    levels_T = np.arange(FRAMES) * 40
    shown = judge.embed(grey(levels_T), FACES)
    assert shown == pytest.approx(np.repeat((levels_T[:, None] / 255 - 0.421) / 0.165, 88, axis=1), abs=1e-3)


def test_lip_score_is_the_cosine_frame_by_frame(judge) -> None:
    """Frames brighter and darker than the network's mean grey: their features point the same way, or the opposite."""
    truth = Truth(grey(np.full(FRAMES, 200)), FACES, np.zeros(0), FACES)

    def score(levels_T: np.ndarray) -> float:
        video = DetectedVideo(grey(levels_T), FACES, np.ones(FRAMES, bool))
        return read.METRICS["lip_score"].compute(Comparison(truth, video, Evaluators(lip_reading=judge)))

    assert score(np.full(FRAMES, 250)) == pytest.approx(1, abs=1e-4)
    assert score(np.array([200, 200, 20, 200, 20, 20])) == pytest.approx(0, abs=1e-4)


def test_another_network_is_refused(tmp_path) -> None:
    (tmp_path / "net").write_bytes(channel_means(88, 88))
    with pytest.raises(
        UserError, match=r"it must take \(batch, 1, frames, 88, 88\) and give \(batch, frames, features\)"
    ):
        LipReadingJudge({lip_reading.NAME: tmp_path / "net"})

"""Inception and I3D from files that the user brings: what they are shown, and that other networks are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.judges import distances
from eval.judges.distances import I3d, Inception
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Truth
from eval.rows import features
from mytalk.command import UserError
from tests.helpers.faces import opened
from tests.helpers.onnx_files import channel_means

pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")
FRAMES = 35


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Networks whose features are the mean of each channel."""
    shapes = {distances.INCEPTION: (3, 299, 299), distances.I3D: (3, 16, 224, 224)}
    for name, shape in shapes.items():
        (tmp_path / name).write_bytes(channel_means(*shape[1:]))
    return {name: tmp_path / name for name in shapes}


def coloured() -> np.ndarray:
    """Frames of one colour each: red rises, green falls, blue stands."""
    colours_T3 = np.stack([np.arange(FRAMES) * 5, 200 - np.arange(FRAMES) * 5, np.full(FRAMES, 30)], axis=1)
    return np.broadcast_to(colours_T3[:, None, None], (FRAMES, 64, 64, 3)).astype(np.uint8)


def test_every_frame_and_every_whole_window_is_shown_from_minus_1_to_1(files) -> None:
    frames_THW3 = coloured()
    of_frames_T3 = frames_THW3[:, 0, 0] / 127.5 - 1
    assert Inception(files).embed(frames_THW3) == pytest.approx(of_frames_T3, abs=1e-3)
    windows = I3d(files).embed(frames_THW3)
    assert windows == pytest.approx(of_frames_T3[:32].reshape(2, 16, 3).mean(axis=1), abs=1e-3)
    assert len(I3d(files).embed(frames_THW3[:15])) == 0


def test_another_network_is_refused_in_one_line(files) -> None:
    swapped = {distances.INCEPTION: files[distances.I3D], distances.I3D: files[distances.INCEPTION]}
    for judge, shape in ((Inception, "3, 299, 299"), (I3d, "3, 16, 224, 224")):
        with pytest.raises(UserError, match=rf"in ONNX: it must take \(batch, {shape}\)"):
            judge(swapped)


def test_the_distances_are_of_all_frames_and_windows_of_all_clips(files, tmp_path) -> None:
    judges = Evaluators(inception=Inception(files), i3d=I3d(files))
    frames_THW3, mouths = coloured(), opened(np.zeros(FRAMES))
    truth = Truth(frames_THW3, mouths, np.zeros(0), mouths)
    for key in ("one", "two"):
        rows = {
            name: Comparison(truth, DetectedVideo(shown, mouths, np.ones(FRAMES, bool)), judges)
            for name, shown in (("same", frames_THW3), ("shifted", frames_THW3 + np.uint8(10)))
        }
        features.save(tmp_path, key, rows)
    no_judge = {"perception": "not there; type: this"}
    found = features.distances(tmp_path, ["one", "two"], ["same", "shifted"], no_judge)
    assert {name: (one["frames"], one["of"]) for name, one in found.items()} == {
        "fid@inception": (2 * FRAMES, "frames"),
        "fvd@i3d": (4, "windows of 16 frames"),
    }
    for one in found.values():
        assert one["rows"]["same"] == pytest.approx(0, abs=1e-9)
        assert one["rows"]["shifted"] == pytest.approx(3 * (10 / 127.5) ** 2, rel=1e-3)
    assert features.left_out(no_judge) == "fd@stlpips-vgg: not there; type: this"

"""The share of the lower face's movement that head pose explains."""

from __future__ import annotations

import json
import math

import numpy as np
from scipy.ndimage import gaussian_filter1d

from benchmarks import head_pose
from tests.helpers import talkers
from tests.helpers.faces import WAVE, opened, still, turning


def slow_series(seed: int, frames: int, width: int) -> np.ndarray:
    """White noise, smoothed over half a second, of variance 1."""
    smoothed = gaussian_filter1d(np.random.default_rng(seed).standard_normal((frames, width)), 6, axis=0)
    return smoothed / smoothed.std(0)


def test_what_follows_the_pose_is_explained_and_what_does_not_is_not():
    angles, frames = slow_series(0, 250, 3), 250
    weights = np.random.default_rng(1).standard_normal((9, 40))
    follows = head_pose.quadratic(angles) @ weights
    assert head_pose.explained(angles, follows) > 0.9
    noise = np.random.default_rng(2).standard_normal((frames, 40))
    assert abs(head_pose.explained(angles, noise)) < 0.2
    half = follows / follows.std() + noise
    assert 0.25 < head_pose.explained(angles, half) < 0.6
    assert head_pose.explained(slow_series(3, 250, 3), follows) < 0.3


def in_the_plane(landmarks_TN3: np.ndarray) -> np.ndarray:
    """A head that rolls, nears and moves."""
    frames = np.arange(len(landmarks_TN3))[:, None]
    turn = (1 + 0.3 * np.sin(frames / 5)) * np.exp(0.4j * np.cos(frames / 7))
    moved = (landmarks_TN3[..., 0] + 1j * landmarks_TN3[..., 1]) * turn + (3 + 2j) * frames
    return np.stack([moved.real, moved.imag, landmarks_TN3[..., 2]], axis=-1)


def test_the_flat_frame_takes_away_every_movement_in_the_plane_and_no_other():
    lower_TK2 = head_pose.flat_lower_face(in_the_plane(still(30)))
    assert np.abs(lower_TK2 - lower_TK2.mean(0)).max() < 1e-6
    assert head_pose.flat_lower_face(in_the_plane(opened(WAVE))).std(0).max() > 1
    assert head_pose.flat_lower_face(turning(still(30))).std(0).max() > 1, "yaw and pitch are left"


def test_the_share_of_the_pose_is_measured_for_every_clip(monkeypatch, tmp_path, capsys):
    shards = talkers.write(tmp_path / "shards", {"train": 2})
    for name, value in {"LEAST_FRAMES": 20, "BLOCKS": 3, "OTHERS": 1}.items():  # quick
        monkeypatch.setattr(head_pose, name, value)
    assert head_pose.run(head_pose.arguments().parse_args([str(shards), "--out", str(tmp_path / "rows")])) == 0
    rows = json.loads((tmp_path / "rows").read_text())
    assert len(rows) == 4
    assert all(math.isfinite(row[frame][what]) for row in rows for frame in ("flat", "head") for what in row[frame])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + 4 + 1
    assert len({line.count("|") for line in lines}) == 1

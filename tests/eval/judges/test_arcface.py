"""ArcFace from a file that the user brings: its alignment, and a network of known answers in ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eval.judges import arcface
from eval.judges.arcface import ArcFaceJudge, alignments
from mytalk.command import UserError
from tests.helpers.onnx_files import channel_means

pytest.importorskip("onnxruntime")


@pytest.fixture
def judge(tmp_path: Path) -> ArcFaceJudge:
    (tmp_path / "net.onnx").write_bytes(channel_means(112, 112))
    return ArcFaceJudge({arcface.NAME: tmp_path / "net.onnx"})


def face(scale: float, degrees: float, shift_2: tuple[float, float]) -> np.ndarray:
    """Landmarks whose five points are the template's, scaled, turned and shifted."""
    angle = np.radians(degrees)
    turn_22 = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    landmarks_N3 = np.zeros((478, 3))
    left, right, nose, *corners = arcface.TEMPLATE_52 @ turn_22.T + shift_2
    for iris, point in zip(arcface.IRISES, (left, right)):
        landmarks_N3[list(iris), :2] = point
    landmarks_N3[arcface.NOSE, :2] = nose
    landmarks_N3[list(arcface.CORNERS), :2] = corners
    return landmarks_N3


@pytest.mark.parametrize(("scale", "degrees"), [(1, 0), (2, 0), (1.7, 25), (0.6, -40)])
def test_the_five_points_come_to_the_template(scale: float, degrees: float) -> None:
    landmarks_N3 = face(scale, degrees, (31.0, 17.0))
    map_23 = alignments(landmarks_N3[None])[0]
    nose_2 = map_23[:, :2] @ landmarks_N3[arcface.NOSE, :2] + map_23[:, 2]
    assert nose_2 == pytest.approx(arcface.TEMPLATE_52[2], abs=1e-9)
    assert np.sqrt(np.linalg.det(map_23[:, :2])) == pytest.approx(1 / scale)


def test_the_network_sees_the_aligned_face_from_minus_1_to_1(judge: ArcFaceJudge) -> None:
    picture = np.zeros((300, 300, 3), np.uint8)
    picture[..., 0], picture[..., 1] = 255, 51
    found = judge.embed(np.stack([picture] * 2), np.stack([face(1, 0, (60, 60)), face(1.5, 10, (90, 40))]))
    np.testing.assert_allclose(found, [[1, -0.6, -1]] * 2, atol=1e-4)


def test_another_network_and_a_file_that_is_none_are_refused(tmp_path: Path) -> None:
    for content in (channel_means(64, 64), b"no network"):
        (tmp_path / "net.onnx").write_bytes(content)
        with pytest.raises(UserError, match="is no ArcFace network in ONNX") as refused:
            ArcFaceJudge({arcface.NAME: tmp_path / "net.onnx"})
        assert "\n" not in str(refused.value)

"""Whether a hand's outline covers the mouth: closed forms of the outline, and the model on real people."""

from __future__ import annotations

import itertools
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mytalk import media
from mytalk.face import detector, mediapipe_hands
from mytalk.face.landmarks import COUNT, OUTER_LIP
from mytalk.face.mediapipe_hands import KNUCKLES, POINTS, covered, outline
from mytalk.face.track import find_faces
from tests.helpers import needs


def face(x: float, y: float, width: float = 40.0, height: float = 20.0) -> np.ndarray:
    """Landmarks whose lips are a rectangle around (x, y), (478, 3)."""
    landmarks_N3 = np.zeros((COUNT, 3), np.float32)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2] + [x, y]
    landmarks_N3[OUTER_LIP, :2] = corners[np.arange(len(OUTER_LIP)) % 4]
    return landmarks_N3


def hand(finger_px: float = 10.0, length_px: float = 60.0) -> np.ndarray:
    """A hand (21, 2) upright in the box from (0, 0) to (3 fingers, length), its knuckles a finger apart."""
    width_px = 3 * finger_px
    points_K2 = np.full((POINTS, 2), [width_px / 2, length_px / 2])
    points_K2[:4] = [[0, 0], [width_px, 0], [0, length_px], [width_px, length_px]]
    points_K2[KNUCKLES] = [[finger * finger_px, length_px / 2] for finger in range(4)]
    return points_K2


def test_the_outline_is_half_a_finger_wider_than_the_points():
    low_2, high_2 = outline(hand())[:, 0].min(0), outline(hand())[:, 0].max(0)
    np.testing.assert_allclose(low_2, [-5, -5], atol=1e-4)
    np.testing.assert_allclose(high_2, [35, 65], atol=1e-4)


@pytest.mark.parametrize(("x", "share"), [(15.0, 1.0), (35.0, 0.5), (55.0, 0.0), (100.0, 0.0)])
def test_the_share_of_the_lips_under_a_hand(x, share):
    """Lips 40 wide around x; the hand reaches from -5 to 35."""
    assert covered(hand(), face(x, 30)) == pytest.approx(share, abs=0.01)


def test_neither_the_size_of_the_picture_nor_its_turn_changes_the_share():
    angle = np.radians(50)
    turn = 3 * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    lips = face(28, 30)
    turned = lips.copy()
    turned[:, :2] = lips[:, :2] @ turn + 100
    assert covered(hand() @ turn + 100, turned) == pytest.approx(covered(hand(), lips), abs=0.03)


def test_a_hand_or_lips_without_an_area_cover_nothing():
    assert covered(np.zeros((POINTS, 2)), face(50, 50)) == 0
    assert covered(hand(), np.full((COUNT, 3), 500.0)) == 0


needs_model = needs.packages("mediapipe", extras="landmarks")


@needs_model
def test_an_empty_picture_has_no_hand_and_the_model_is_quiet():
    """In a process of its own: MediaPipe's threads would outlive the test, and later ones fork."""
    code = "import numpy as np; from mytalk.face.mediapipe_hands import Hands\n"
    code += "print(Hands().find(np.full((200, 300, 3), 90, np.uint8)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@needs_model
def test_a_reader_s_mouth_is_not_covered(real_videos):
    """Seven people of the GRID corpus, whose hands are not in the picture."""
    finder, hands = detector.load(detector.DEFAULT), mediapipe_hands.Hands()
    for video in sorted(real_videos.glob("grid_*.mpg"))[:3]:
        pictures = list(itertools.islice(media.read_frames(video), 0, 60, 20))
        track = find_faces(pictures, finder)
        assert track.found_T.all()
        for picture, landmarks_N3 in zip(pictures, track.landmarks_TN3):
            assert not hands.covers_mouth(picture, landmarks_N3)
            assert covered(hand_over(landmarks_N3), landmarks_N3) > 0.9


def hand_over(landmarks_N3: np.ndarray) -> np.ndarray:
    """A hand in the middle of whose palm the lips are."""
    lips_V2 = cv2.convexHull(landmarks_N3[OUTER_LIP, :2].astype(np.float32))[:, 0]
    width = float(np.ptp(lips_V2[:, 0]))
    points_K2 = hand(width, 4 * width)
    return points_K2 - points_K2.mean(0) + lips_V2.mean(0)

"""Drawn heads in space: the pose told is the pose drawn, within its limits, and the truth says where the lips are."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipeline.synthetic.movement import FRONTAL, PITCH_LIMIT, ROLL_LIMIT, YAW_LIMIT, Pose, poses
from data_pipeline.synthetic.paint import brush, mouth, projection
from data_pipeline.synthetic.paint.canvas import CENTRE
from data_pipeline.synthetic.paint.face import Face
from data_pipeline.synthetic.paint.portrait import Portrait
from data_pipeline.synthetic.paint.relief import relief
from data_pipeline.synthetic.performance import perform, pictures, truth
from data_pipeline.synthetic.person import person
from mytalk.face.mediapipe_mesh import FaceDetector
from mytalk.face.track import find_faces

CLOSED = np.zeros(3)
TURNS = [
    {},
    {"yaw": 25.0},
    {"yaw": -25.0},
    {"pitch": 15.0},
    {"pitch": -15.0},
    {"roll": 10.0, "scale": 0.9, "x": 12.0, "y": -8.0},
    {"yaw": 20.0, "pitch": -10.0, "roll": -8.0, "scale": 1.06, "x": -9.0, "y": 5.0},
]
# Forehead, nose tip, cheeks and chin: where eyes and mouth, which are painted anew, do not cover the mark.
MARKS = {"forehead": (0, -85), "nose": (0, 28), "left cheek": (-52, 22), "right cheek": (52, 22)}


def posed(**values: float) -> Pose:
    return replace(FRONTAL, **values)


def test_angles_turn_the_head_as_they_say():
    """Against scipy: yaw to the image's right, then pitch down, then roll clockwise."""
    pose = posed(yaw=20, pitch=-12, roll=7)
    wanted_33 = Rotation.from_euler("ZXY", [pose.roll, -pose.pitch, pose.yaw], degrees=True).as_matrix()
    np.testing.assert_allclose(projection.rotation(pose), wanted_33, atol=1e-12)
    nose = projection.PIVOT + np.array([0, 0, 100])
    assert projection.shown_at(nose[None], posed(yaw=20))[0, 0] == pytest.approx(100 * np.sin(np.radians(20)))
    below = projection.PIVOT[1] + 100 * np.sin(np.radians(12))
    assert projection.shown_at(nose[None], posed(pitch=12))[0, 1] == pytest.approx(below)
    right = projection.PIVOT + np.array([100, 0, 0])
    assert projection.shown_at(right[None], posed(roll=10))[0, 1] > projection.PIVOT[1] + 17


@pytest.mark.parametrize("turned", TURNS)
@pytest.mark.parametrize("mark", MARKS)
def test_a_mark_on_the_head_is_drawn_where_its_pose_puts_it(turned, mark):
    who, pose, size = person(0, 1), posed(**turned), 512
    grid_x, grid_y = np.meshgrid(*(np.arange(size) + 0.5 - centre for centre in CENTRE))
    depth = relief(who, grid_x, grid_y).astype(np.float32)
    sheet = np.zeros((size, size, 4), np.uint8)
    brush.disc(sheet, np.array(MARKS[mark]) + CENTRE - 0.5, (2, 2), (255, 255, 255))
    face = Face(who, Portrait(np.zeros((size, size, 3), np.uint8), sheet, depth, 1.0))
    face.mouth_box = face.eye_boxes[0] = face.eye_boxes[1] = (slice(0, 40), slice(0, 200))  # out of the way
    picture = face.frame(CLOSED, pose)[40:].astype(float).sum(-1)
    weight = picture * (picture > picture.max() / 4)
    rows, columns = np.mgrid[40:size, :size] + 0.5
    seen = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
    x, y = MARKS[mark]
    wanted = projection.shown_at(np.array([[x, y, relief(who, np.array(x), np.array(y))]]), pose)[0] + CENTRE
    np.testing.assert_allclose(seen, wanted, atol=1.5)  # a part of a mark on the nose's ridge is turned away


def test_what_is_turned_away_is_hidden_by_what_is_in_front():
    """A wall in front of a plane: turned to the right, it covers the plane beside it."""
    at_G = np.linspace(-100, 100, 81)
    wall_GG = np.where(np.abs(at_G) <= 10, 100.0, 0.0)[None].repeat(81, 0)
    x_GG, y_GG = projection.seen_through(at_G, at_G, wall_GG, posed(yaw=20))
    # The wall's right edge is shown at 10 cos + 100 sin = 43.6; what lies left of it on the plane is not seen.
    behind = at_G[(at_G > 12) & (at_G < 38)]
    seen = np.interp(behind, at_G, x_GG[40])
    assert np.all(seen <= 10.1 + 2.5)
    assert np.interp(60, at_G, x_GG[40]) == pytest.approx(60 / np.cos(np.radians(20)), abs=0.5)
    np.testing.assert_allclose(y_GG, at_G[:, None].repeat(81, 1), atol=1e-9)


def test_some_people_move_much_and_some_little_within_the_limits():
    widest = []
    for identity in range(24):
        moves = perform(0, identity, 0, 4.0, 25).poses_T
        angles_T3 = np.array([(pose.yaw, pose.pitch, pose.roll) for pose in moves])
        scale_T = np.array([pose.scale for pose in moves])
        assert (np.abs(angles_T3) < (YAW_LIMIT, PITCH_LIMIT, ROLL_LIMIT)).all()
        assert (np.abs(np.diff(angles_T3, axis=0)) < 4).all()  # degrees a frame
        assert scale_T.min() > 0.85
        assert scale_T.max() < 1.1
        widest.append(np.ptp(angles_T3[:, 0]))
    assert min(widest) < 8
    assert max(widest) > 25


def test_poses_are_smooth_and_their_own_in_every_clip():
    times_T = np.arange(100) / 25
    one, same, other = (poses(np.random.default_rng(seed), times_T, 0.5) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_the_truth_has_the_pose_and_the_lips_of_every_frame():
    size = 256
    done = perform(3, 1, 0, 2.0, 25)
    told = json.loads(json.dumps(truth(3, 1, done, size)))
    for name in ("yaw", "pitch", "roll", "scale"):
        np.testing.assert_allclose(told["pose"][name], [asdict(pose)[name] for pose in done.poses_T], atol=1e-4)
    np.testing.assert_allclose(told["pose"]["x"], [pose.x / 2 for pose in done.poses_T], atol=1e-4)
    np.testing.assert_allclose(told["frontal_opening_px"], np.array(told["opening"]) * told["opening_1_px"], atol=2e-3)
    lips = {name: np.array(told["lips"][name]) for name in mouth.LANDMARKS}
    gap_T = np.linalg.norm(lips["lower_inner"] - lips["upper_inner"], axis=1)
    np.testing.assert_allclose(told["opening_px"], gap_T, atol=0.02)
    width_T = np.linalg.norm(lips["right_corner"] - lips["left_corner"], axis=1)
    np.testing.assert_allclose(told["width_px"], width_T, atol=0.02)
    # A turned mouth is narrower than the same mouth from the front, at the same scale.
    frontal_T = np.array(told["frontal_width_px"]) * told["pose"]["scale"]
    assert (width_T <= frontal_T + 1.0).all()


def test_the_mesh_follows_the_head_and_finds_the_lips_where_the_truth_has_them():
    done = replace(perform(5, 0, 0, 1.2, 25), poses_T=[posed(yaw=float(yaw)) for yaw in np.linspace(-24, 24, 30)])
    told = truth(5, 0, done, 512)
    track = find_faces((frame[..., ::-1] for frame in pictures(5, 0, done, 512)), FaceDetector())
    assert track.found_T.all()
    points_TNC = track.landmarks_TN3
    left_T2, right_T2, nose_T2 = (points_TNC[:, point, :2] for point in (33, 263, 4))
    turned_T = (nose_T2 - (left_T2 + right_T2) / 2)[:, 0] / np.linalg.norm(right_T2 - left_T2, axis=1)
    assert np.corrcoef(turned_T, np.linspace(-24, 24, 30))[0, 1] > 0.99
    for name, point in (("left_corner", 61), ("right_corner", 291), ("upper_inner", 13), ("lower_inner", 14)):
        apart_T = np.linalg.norm(points_TNC[:, point, :2] - np.array(told["lips"][name]), axis=1)
        assert np.median(apart_T) < 6, name

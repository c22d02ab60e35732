"""Hands before a mouth: a stand-in with a known outline in the second pass, time by closed forms, and the model."""

from __future__ import annotations

import importlib.util
import itertools
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from mytalk import media
from mytalk.dub import compositing, hands
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.face import crop, mediapipe_hands
from mytalk.face.landmarks import CROP_PX
from tests.helpers import needs
from tests.helpers.heads import disc

FRAMES, SEEN = 24, range(6, 18)  # more than a batch
WHOLE, NONE = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)


class Inverter:
    """Paints a disc around the crop's middle."""

    side_px = 256
    in_order = True

    def paint_each(self, frames_BHW3, several, regions_BV2, start=0, before=None):
        return [255 - frames_BHW3], np.stack([disc(80, (128, 128))] * len(frames_BHW3))


def fist(x: float, y: float, radius: float) -> np.ndarray:
    """A hand (21, 2), its knuckles on a line in the middle of a circle of the other points."""
    turns = np.linspace(0, 2 * np.pi, mediapipe_hands.POINTS, endpoint=False)
    hand_K2 = np.stack([np.cos(turns), np.sin(turns)], -1) * radius
    hand_K2[mediapipe_hands.KNUCKLES] = [[finger * radius / 4, 0] for finger in range(4)]
    return hand_K2 + np.array([x, y])


def dubbed(tmp_path: Path, keeper: hands.Hands | None) -> tuple[np.ndarray, np.ndarray]:
    """A film of soft noise before and after the painting, whose crop is doubled: (F, 160, 200, 3) each."""
    video = tmp_path / "v.mp4"
    if not video.exists():  # its bytes differ each time
        coarse = np.random.default_rng(0).integers(60, 120, (FRAMES, 20, 25, 3))
        media.write_video(video, np.kron(coarse, np.ones((1, 8, 8, 1), int)).astype(np.uint8), 25)
    crops_F23 = np.broadcast_to(crop.box(np.array([100.0, 80.0]), 128, CROP_PX), (FRAMES, 2, 3))
    points = np.zeros((FRAMES, 4, 2), np.float32)
    found = FirstPass(video, Fraction(25), 200, 160, FRAMES, [FaceSpan(0, FRAMES, crops_F23, points)])
    layer = compositing.Layer(found.spans, [points], [points], [np.ones(FRAMES)], Inverter())  # type: ignore
    after = np.stack(list(compositing.dubbed_frames(found, [layer], lambda: None, keeper)))
    return np.stack(list(media.read_frames(video))), after


def test_a_hand_keeps_its_pixels_to_the_bit_and_the_rest_is_painted(tmp_path):
    looks = iter(range(FRAMES))
    keeper = hands.Hands(lambda picture: [fist(256 + 40, 256, 20)] if next(looks) in SEEN else [])  # around the crop
    before, after = dubbed(tmp_path, keeper)
    _, everything = dubbed(tmp_path, None)
    centre, radius = crop.apply(np.array([[168.0, 128.0]]), crop.invert(crop.box(np.array([100.0, 80.0]), 128)))[0], 10
    rows, columns = np.mgrid[:160, :200] + 0.5
    away_px = np.hypot(columns - centre[0], rows - centre[1])
    for frame in SEEN:
        assert np.array_equal(after[frame][away_px < radius], before[frame][away_px < radius])
        assert not np.array_equal(everything[frame][away_px < radius], before[frame][away_px < radius])
        beyond = away_px > 2 * radius + (hands.MARGIN_PX + hands.SOFT_PX) / 2
        assert np.array_equal(after[frame][beyond], everything[frame][beyond])
    for frame in {*range(FRAMES)} - {*SEEN}:
        assert np.array_equal(after[frame], everything[frame])
    assert keeper.kept_frames == len(SEEN)


def test_a_hand_beside_what_is_painted_changes_nothing(tmp_path):
    keeper = hands.Hands(lambda picture: [fist(30, 30, 20)])
    np.testing.assert_array_equal(dubbed(tmp_path, keeper)[1], dubbed(tmp_path, None)[1])
    assert keeper.kept_frames == 0


def test_a_hand_seen_once_is_none_and_one_that_is_missed_for_a_moment_stays():
    missed = hands.MISSED_FRAMES

    def over_time(*seen: int) -> list[float]:
        masks = (WHOLE if frame in seen else NONE for frame in range(60))
        return [float(one[0, 0]) for one in hands.steady(masks)]

    assert not any(over_time(30))
    assert not any(over_time(10, 11 + missed))
    assert over_time(30, 30 + missed) == [float(30 <= frame <= 30 + missed) for frame in range(60)]
    assert over_time(*range(60)) == [1.0] * 60
    assert len(list(hands.steady([WHOLE] * 2))) == 2


def test_few_frames_are_taken_ahead(tmp_path):
    """However long the span is."""
    taken = []

    def frames():
        for frame in range(60):
            taken.append(frame)
            yield np.zeros((64, 64, 3), np.uint8)

    looked_at = hands.Hands(lambda picture: []).hidden(frames(), np.broadcast_to(np.eye(2, 3), (50, 2, 3)))
    for frame in range(20):
        next(looked_at)
        assert len(taken) - frame <= hands.MISSED_FRAMES + 1
    assert sum(1 for _ in looked_at) == 30
    assert len(taken) == 50, "the frames after the span are left"


def test_the_edge_is_soft():
    hidden_PP = hands.mask([fist(128, 128, 30)])
    outline_V2 = mediapipe_hands.outline(fist(128, 128, 30))
    within = cv2.pointPolygonTest(outline_V2, (128, 100), False)
    assert within > 0
    assert hidden_PP[100, 128] == 1
    assert not hands.mask([]).any()
    assert np.abs(np.diff(hidden_PP, axis=1)).max() < 1.5 / hands.SOFT_PX


def test_without_the_model_it_is_said_once(monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert hands.load() is None
    assert "is in the extra landmarks" in capsys.readouterr().out


@needs.packages("mediapipe", "cv2", extras="landmarks")
def test_the_model_keeps_a_drawn_hand_before_the_mouth():
    """The hand comes from below; a look at frame 36 and later has it over the whole mouth."""
    from data_pipeline.synthetic.scenes.scene import scene

    one, keeper = scene("hand"), hands.load()
    assert keeper is not None
    for frame, picture in enumerate(itertools.islice(one.pictures(), 41)):
        if frame in (10, 36, 40):
            x, y, side = one.truth["people"][0]["box"][frame]
            crop_23 = crop.box(np.array([x, y]), crop.MARGIN * side)
            mouth_PP = hands.mask(keeper.in_crop(picture, crop_23))[150:185, 105:150]
            assert mouth_PP.mean() == one.truth["hand"][frame], frame

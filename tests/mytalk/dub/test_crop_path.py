"""A crop that follows a speaker who walks: how large the face stays in it, how smooth it is, and what stays exact."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mytalk import media
from mytalk.dub import compositing, first_pass
from mytalk.dub.faces import Face
from mytalk.dub.tracks import Followed, Track
from mytalk.face import crop, region, smooth
from tests.helpers.heads import disc, swaying

FPS = 25.0
LEAST_PX = 140.0  # of 170 that a still face has in its crop


def walker(frames: int, way_x: list[tuple[float, float]], side_px: float = 100, zoom=lambda t: 1 + 0 * t) -> np.ndarray:
    """A head that sways and speaks, walks along a way of (second, px) and nears: (F, 478, 3)."""
    times = np.arange(frames) / FPS
    heads = swaying(frames, FPS, side_px, centre=(0.0, 0.0)) * zoom(times)[:, None, None]
    x = np.interp(times, *zip(*way_x))
    return (heads + np.stack([x, 300 + 0 * x, 0 * x], -1)[:, None]).astype(np.float32)


def side_in_crop(landmarks_FN3: np.ndarray, crops_F23: np.ndarray) -> np.ndarray:
    """Sides of the faces as their crops show them, px."""
    _, side_F = crop.faces(crop.head_poses(crop.apply_each(landmarks_FN3, crops_F23)))
    return side_F


def out_of_crop(landmarks_FN3: np.ndarray, crops_F23: np.ndarray) -> np.ndarray:
    """How far each face reaches beyond its crop, px of the crop; negative where it does not."""
    centre_F2, side_F = crop.faces(crop.head_poses(crop.apply_each(landmarks_FN3, crops_F23)))
    return np.abs(centre_F2 - 128).max(1) + side_F / 2 - 128


STROLL = [(0, 200), (2, 200), (8, 1700), (10, 1700)]  # 2.5 faces a second, as fast as a head shakes
WALKS = {
    "once across": (STROLL, lambda t: 1 + 0 * t),
    "to and fro": ([(0, 200), (4, 600), (8, 200), (12, 600)], lambda t: 1 + 0 * t),
    "nears": ([(0, 400), (12, 500)], lambda t: 1 + t / 6),
    "leaves": ([(0, 400), (12, 900)], lambda t: 3 - t / 6),
}


@pytest.mark.parametrize("walk", WALKS)
def test_a_face_that_walks_stays_large_and_wholly_in_its_crop(walk):
    heads = walker(300, *WALKS[walk][:1], zoom=WALKS[walk][1])
    crops = crop.path(heads, FPS)
    assert side_in_crop(heads, crops).min() > LEAST_PX
    assert out_of_crop(heads, crops).max() < 0.01
    fixed = np.repeat(crop.canonical(heads)[None], len(heads), 0)
    worse = side_in_crop(heads, fixed).min() < 0.8 * LEAST_PX or out_of_crop(heads, fixed).max() > 10
    assert worse, "a fixed crop would do: this is no test"


@pytest.mark.parametrize("walk", WALKS)
def test_the_crop_moves_without_a_jump(walk):
    """Its speed is the walker's at most, and changes slowly; its side changes by little from frame to frame."""
    heads = walker(300, *WALKS[walk][:1], zoom=WALKS[walk][1])
    crops = crop.path(heads, FPS)
    sides = 256 / crops[:, 0, 0]
    centres = (128 - crops[:, :, 2]) / crops[:, 0, 0, None]
    face_px = sides.min() / crop.MARGIN
    speed = np.diff(centres, axis=0)
    own, _ = crop.faces(crop.head_poses(heads))
    assert np.abs(speed).max() <= np.abs(np.diff(own, axis=0)).max() + 0.01
    assert np.abs(np.diff(speed, axis=0)).max() < 0.02 * face_px
    assert np.abs(np.diff(np.log(sides))).max() < 0.03


@pytest.mark.parametrize("frames", [5, 8, 31])
def test_a_short_shot_has_a_path_too(frames):
    heads = walker(frames, [(0, 0), (1, 1000)])
    crops = crop.path(heads, FPS)
    assert crops.shape == (frames, 2, 3)
    assert out_of_crop(heads, crops).max() < 0.01
    assert np.isfinite(crops).all()


def test_a_speaker_who_stays_has_one_crop_the_canonical():
    heads = swaying(200, FPS, 100)
    crops = crop.path(heads, FPS)
    assert (crops == crop.canonical(heads)).all()


def test_what_is_painted_hangs_on_the_head_not_on_the_crop():
    """Regions and landmarks of a walker are the same in source px, whatever crops they went through."""
    heads = walker(200, STROLL)
    moving = crop.path(heads, FPS)
    assert np.ptp(moving[:, 0, 2]) > 100
    fixed = np.repeat(crop.canonical(heads)[None], len(heads), 0)
    shown = []
    for crops in (moving, fixed):
        regions_FV2 = region.regions(crop.apply_each(heads, crops))
        back = [crop.apply(one, crop.invert(crop_23)) for one, crop_23 in zip(regions_FV2, crops)]
        shown.append(np.stack(back))
    np.testing.assert_allclose(*shown, atol=0.05)


class Repainter:
    """Paints what is there."""

    side_px = 256
    in_order = True

    def paint_each(self, frames_BHW3, several, regions_BV2, start=0, before=None):
        return [frames_BHW3 for _ in several], np.stack([disc(90, (128, 128))] * len(frames_BHW3))


def test_a_walker_repainted_as_it_is_changes_nothing_but_fine_grain(tmp_path):
    """Through the whole second pass. A crop that is off by a px in one frame would show there."""
    heads = walker(100, [(0, 100), (1, 100), (3, 500), (4, 500)], side_px=80)[:, :, [0, 1, 2]] - np.float32([0, 200, 0])
    rows, columns = np.mgrid[:200, :600]
    waves = np.stack([np.sin(columns / 9 + k) + np.cos(rows / (7 + k)) for k in range(3)], -1)
    video = tmp_path / "v.mp4"
    media.write_video(video, [(127 + 50 * np.roll(waves, 3 * k, axis=1)).astype(np.uint8) for k in range(100)], 25)
    found = first_pass.of_face(
        video, Fraction(25), Followed([], [], 100, 600, 200), Face((Track(0, list(range(100)), list(heads)),))
    )
    (span,) = found.spans
    assert np.ptp(span.crops_F23[:, 0, 2]) > 100, "it follows"
    shown = (np.arange(len(span.landmarks_FN3)) < 90).astype(np.float32)
    layer = compositing.Layer(found.spans, [span.landmarks_FN3], [span.landmarks_FN3], [shown], Repainter())  # type: ignore
    before = list(media.read_frames(video))
    after = list(compositing.dubbed_frames(found, [layer], lambda: None))
    away = np.array([np.abs(a.astype(int) - b).mean() for a, b in zip(after, before, strict=True)])
    assert away.max() < 0.5
    assert away[:90].all()
    assert not away[90:].any(), "at strength 0 the frame is passed through"
    assert np.array([np.abs(a.astype(int) - b).max() for a, b in zip(after, before)]).max() <= 12


def test_a_long_shot_is_smoothed_in_blocks_as_if_it_were_one(monkeypatch):
    noise = np.random.default_rng(0).normal(0, 0.3, (700, 1, 1))
    heads = (swaying(700, FPS, 160) + noise).astype(np.float32)
    blocks = smooth.smooth(heads, FPS)
    monkeypatch.setattr(smooth, "BLOCK_FRAMES", 1000)
    whole = smooth.smooth(heads, FPS)
    assert np.abs(blocks - whole).max() < 0.1
    assert np.abs(np.diff(blocks - whole, axis=0)).max() < 0.05, "nothing jumps where a block ends"


def test_a_still_speaker_is_dubbed_as_with_one_crop(tmp_path):
    heads = swaying(40, FPS, 60)
    found = first_pass.of_face(
        Path("none"), Fraction(25), Followed([], [], 40, 160, 120), Face((Track(0, list(range(40)), list(heads)),))
    )
    (span,) = found.spans
    assert (span.crops_F23 == span.crops_F23[0]).all()
    assert span.crops_F23.strides[0] == 0, "one crop is kept once, however long the shot"

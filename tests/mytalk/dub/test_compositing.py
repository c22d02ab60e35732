"""Which pixels are painted, and which are the source's to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from mytalk import media
from mytalk.dub import compositing, dubbing, first_pass
from mytalk.dub.person import person_reference
from mytalk.face import crop
from tests.helpers.heads import swaying
from tests.helpers.stand_ins import Inverter, Seer, film, own

pytestmark = pytest.mark.usefixtures("stand_ins")


def sent(monkeypatch, tmp_path, found, new, models, speech_S, rate: int = 16_000) -> tuple[np.ndarray, np.ndarray]:
    """What `render` sends to the encoder: frames and sound."""
    kept = {}

    def keep(path, frames, fps, audio, rate, metadata, colour, layout):
        kept["frames"], kept["audio"] = np.stack(list(frames)), audio

    monkeypatch.setattr(media, "write_video", keep)
    source = person_reference(found, np.zeros(0, np.float32))
    dubbing.render([dubbing.Dub(found, new, source)], models, speech_S, tmp_path / "o.mp4", rate=rate)
    return kept["frames"], kept["audio"]


def test_frames_without_a_face_and_pixels_outside_the_mask_are_those_of_the_source(tmp_path, models, monkeypatch):
    """To the bit, on the way into the encoder; short gaps of the detector are painted all the same."""
    video = film(tmp_path / "v.mp4", 60)
    hidden = {*range(20, 30), 40, 41, 42}
    found = first_pass.find_face_spans(video, Seer(swaying(60), hidden))
    assert [(span.start, span.stop) for span in found.spans] == [(0, 20), (30, 60)]
    before = np.stack(list(media.read_frames(video, 25)))
    after, _ = sent(monkeypatch, tmp_path, found, own(found), models, np.zeros(0, np.float32))
    assert np.array_equal(after[20:30], before[20:30])
    for span in found.spans:
        back = crop.invert(span.crops_F23[0])
        middle, edge = crop.apply(np.array([[128.0, 160.0], [180.0, 160.0]]), back)
        y, x = np.mgrid[:120, :160] + 0.5
        outside = np.hypot(x - middle[0], y - middle[1]) > edge[0] - middle[0] + 1
        painted = np.hypot(x - middle[0], y - middle[1]) < (edge[0] - middle[0]) / 2
        for k in range(span.start, span.stop):
            assert np.array_equal(after[k][outside], before[k][outside])
            assert np.abs(after[k][painted].astype(float) - (255 - before[k][painted].astype(float))).mean() < 12


def test_the_painter_gets_batches_of_crops_new_landmarks_and_the_regions_of_the_old(tmp_path, models, monkeypatch):
    video = film(tmp_path / "v.mp4", 40)
    found = first_pass.find_face_spans(video, Seer(swaying(40)))
    new = [landmarks + 1 for landmarks in own(found)]
    sent(monkeypatch, tmp_path, found, new, models, np.zeros(0, np.float32))
    assert [len(frames) for frames, *_ in Inverter.calls] == [8] * 5
    frames, landmarks, regions = (np.concatenate(parts) for parts in zip(*Inverter.calls))
    assert np.array_equal(landmarks, new[0])
    assert np.array_equal(regions, found.spans[0].landmarks_FN3[:, :4])
    whole = list(media.read_frames(video, 25))
    assert np.array_equal(frames[17], crop.warp(whole[17], found.spans[0].crops_F23[17]))


def soft(height: int, width: int) -> np.ndarray:
    """A picture without fine detail, which a crop keeps."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + k) + np.cos(y / (13 + k)) for k in range(3)]
    return (127 + 50 * np.stack(waves, -1)).round().astype(np.uint8)


@pytest.mark.parametrize("side_px", [70, 256, 700])
@pytest.mark.parametrize("centre", [(400, 300), (20, 590), (790, 10)], ids=["inside", "lower left", "upper right"])
def test_an_unchanged_crop_changes_nothing(side_px, centre):
    """Beyond interpolation, for small and large faces, and for crops that reach over the border."""
    frame = soft(600, 800)
    scale = 256 / side_px
    crop_23 = np.array([[scale, 0, 128 - scale * centre[0]], [0, scale, 128 - scale * centre[1]]])
    kept = frame.copy()
    back = compositing.paste(frame, crop.warp(frame, crop_23), np.ones((256, 256), np.float32), crop_23)
    assert np.array_equal(frame, kept)
    away = np.abs(back.astype(int) - frame)
    assert away.max() <= 6  # at the frame's border, beyond which nothing is known
    assert away[3:-3, 3:-3].max() <= 3
    black = compositing.paste(frame, np.zeros((256, 256, 3), np.uint8), np.ones((256, 256), np.float32), crop_23)
    changed = np.argwhere((black != frame).any(-1)) + 0.5
    low, high = np.array(centre) - side_px / 2, np.array(centre) + side_px / 2
    expected = np.concatenate([np.maximum(low, 0), np.minimum(high, (800, 600))])
    got = np.concatenate([changed.min(0)[::-1] - 0.5, changed.max(0)[::-1] + 0.5])
    np.testing.assert_allclose(got, expected, atol=1 + side_px / 64)
    assert (black[tuple(np.clip(np.array(centre)[::-1], 0, (599, 799)))] == 0).all()


def test_a_mask_of_nothing_or_a_crop_beside_the_frame_gives_the_frame_back():
    frame = soft(60, 80)
    painted, ones = np.zeros((256, 256, 3), np.uint8), np.ones((256, 256), np.float32)
    assert np.array_equal(compositing.paste(frame, painted, 0 * ones, np.array([[2.0, 0, 0], [0, 2, 0]])), frame)
    assert np.array_equal(compositing.paste(frame, painted, ones, np.array([[2.0, 0, 900], [0, 2, 0]])), frame)

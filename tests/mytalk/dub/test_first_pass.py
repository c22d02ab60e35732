"""The rate that is read, the spans that are dubbed, and the stretch that shows the person."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

from mytalk import media
from mytalk.dub import first_pass
from mytalk.dub.person import person_reference
from mytalk.face import crop
from mytalk.face.landmarks import COUNT, SAMPLES_PER_FRAME
from mytalk.face.smooth import smooth
from tests.helpers import numbered
from tests.helpers.heads import swaying
from tests.helpers.stand_ins import NTSC, Seer, film

pytestmark = pytest.mark.usefixtures("stand_ins")


@pytest.mark.parametrize("stated", [333, 1000, 0], ids=["333", "timebase", "nothing"])
def test_the_rate_of_a_browsers_recording_is_measured(tmp_path, models, stated, monkeypatch):
    """Its time stamps are irregular, and its header says every how many ms one may be, or nothing."""
    times = np.cumsum([0, *[31, 35, 33, 29, 38, 34] * 6])
    ms = Fraction(1, 1000)
    video = numbered.write(tmp_path / "v.webm", [t * ms for t in times], ms, stated or 25, codec="libvpx")
    probed = media.probe(video)
    if stated:
        assert probed.fps > media.MOST_HZ
    else:
        monkeypatch.setattr(media, "probe", lambda path: dataclasses.replace(probed, fps=0.0))
    fps = first_pass.frame_rate(video)
    assert float(fps) == pytest.approx(30, rel=0.03)
    monkeypatch.undo()
    assert [numbered.number(one) for one in media.read_frames(video, fps)][-1] == len(times) - 1
    assert len(list(media.read_frames(video, fps))) == len(times)


@pytest.mark.parametrize("fps", [12, NTSC, 60, 120, 240])
def test_a_regular_rate_is_the_headers_or_equals_it(tmp_path, fps):
    video = numbered.write(tmp_path / "v.mp4", numbered.regular(48, fps), rate=fps)
    assert float(first_pass.frame_rate(video)) == pytest.approx(float(fps), rel=1e-4)


def test_spans_end_at_gaps_cuts_and_are_not_too_short(tmp_path):
    video = film(tmp_path / "v.mp4", 60)
    heads = swaying(60)
    heads[40:] += 50  # a cut to another place
    hidden = {*range(10, 16), *range(20, 26), *range(38, 41)}  # leaves 4 frames alone; 3 missed at the cut
    found = first_pass.find_face_spans(video, Seer(heads, hidden))
    assert [(span.start, span.stop) for span in found.spans] == [(0, 10), (26, 38), (41, 60)]
    for span in found.spans:
        expected = crop.apply(smooth(heads[span.start : span.stop]), span.crops_F23[0])
        np.testing.assert_allclose(span.landmarks_FN3, expected)


def test_a_short_gap_is_bridged_on_a_line(tmp_path):
    heads = np.linspace(0, 19, 20)[:, None, None] + swaying(1)
    found = first_pass.find_face_spans(film(tmp_path / "v.mp4", 20), Seer(heads.astype(np.float32), range(8, 13)))
    (span,) = found.spans
    np.testing.assert_allclose(span.landmarks_FN3, crop.apply(heads, span.crops_F23[0]), atol=1e-3)


@pytest.mark.parametrize("fps", [25, 50, NTSC])
def test_the_source_is_the_loudest_stretch_with_the_pictures_that_belong_to_it(tmp_path, fps):
    frames = round(5 * fps)
    video = film(tmp_path / "v.mp4", frames, fps)  # it grows louder
    found = first_pass.find_face_spans(video, Seer(swaying(frames, fps)))
    source = person_reference(found, media.read_audio(video))
    assert source.landmarks_UN3.shape == (75, COUNT, 3)
    assert source.audio_S.shape == (75 * SAMPLES_PER_FRAME,)
    (span,) = found.spans
    exact = crop.apply(swaying(125, 25), span.crops_F23[0])
    begin = int(np.abs(exact - source.landmarks_UN3[0]).mean(axis=(1, 2)).argmin())
    assert begin >= 45
    np.testing.assert_allclose(source.landmarks_UN3, exact[begin : begin + 75], atol=0.5)
    assert len(source.frames_RHW3) == len(source.frame_landmarks_RN3) == 25
    whole = list(media.read_frames(video, found.fps))
    for picture, landmarks in zip(source.frames_RHW3, source.frame_landmarks_RN3, strict=True):
        index = int(np.abs(span.landmarks_FN3 - landmarks).sum(axis=(1, 2)).argmin())
        assert np.array_equal(picture, crop.warp(whole[index], span.crops_F23[index]))
        assert begin - 1 <= index * 25 / fps <= begin + 75

"""Dubbing: what is kept, what is painted where, how motion is retimed and joined, and what is refused.

Most tests draw a film of moving noise and put stand-ins in place of detector and painter; one types the command
on a drawn person.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import importlib.util
import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
import types
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import av
import numpy as np
import pytest
import torch

from mytalk import media
from mytalk.__main__ import COMMANDS
from mytalk.atomic import LONGEST_NAME_BYTES
from mytalk.command import EXIT_INTERRUPTED, UserError, main
from mytalk.control import motion_file
from mytalk.control.control import Control
from mytalk.control.motion_file import Keyframes
from mytalk.control.promises import mouth_of
from mytalk.dub import compositing, dubbing, first_pass, hands, long_form
from mytalk.dub.commands import dub as dub_command
from mytalk.dub.faces import Choice
from mytalk.dub.person import PersonReference, Sources, person_reference
from mytalk.dub.tracks import Followed, Track
from mytalk.face import crop, region
from mytalk.face.landmarks import COUNT, NOISED, SAMPLE_HZ, SAMPLES_PER_FRAME, without_mouth
from mytalk.face.smooth import smooth
from mytalk.face.track import FaceTrack
from mytalk.networks.motion import generation
from mytalk.networks.motion.config import MotionConfig
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import MotionModel
from tests.helpers import numbered, sounds
from tests.helpers.checkout import ROOT, stopped
from tests.helpers.heads import disc, swaying

NTSC = Fraction(30_000, 1001)
TINY = MotionConfig(width=32, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1)


def film(path: Path, frames: int, fps: float | Fraction = 25, width: int = 160, height: int = 120, hz: int = 16_000):
    """A video of drifting soft noise, with a sound that grows louder; `hz` 0: without sound."""
    random = np.random.default_rng(0)
    coarse = random.integers(30, 220, (height // 8 + 2, (width + frames) // 8 + 3, 3))
    field = np.kron(coarse, np.ones((8, 8, 1), int)).astype(np.uint8)
    pictures = [field[:height, k : k + width] for k in range(frames)]
    sound = None
    if hz:
        samples = round(frames / Fraction(fps) * hz)
        sound = (np.linspace(0.05, 0.5, samples) * random.uniform(-1, 1, samples)).astype(np.float32)
    media.write_video(path, pictures, fps, sound, hz or 16_000)
    return path


def wav(path: Path, seconds: float, hz: int = 16_000) -> Path:
    """Noise at constant loudness."""
    import wave

    samples = np.random.default_rng(1).integers(-8000, 8000, round(seconds * hz), dtype=np.int16)
    with wave.open(str(path), "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(hz)
        opened.writeframes(samples.tobytes())
    return path


class Seer:
    """Stands in for the detector and knows where the main face is in every frame; nowhere where `hidden`."""

    def __init__(self, landmarks_FN3: np.ndarray, hidden=()):
        self.landmarks_FN3, self.hidden = landmarks_FN3, list(hidden)

    def find_faces(self, frames, on_frame=lambda: None) -> FaceTrack:
        sizes = [frame_HW3.shape for frame_HW3 in frames]
        landmarks_FN3, found_F = self.landmarks_FN3[: len(sizes)].copy(), np.ones(len(sizes), bool)
        hidden = [index for index in self.hidden if index < len(sizes)]
        landmarks_FN3[hidden], found_F[hidden] = 0, False
        for _ in sizes:
            on_frame()
        height, width, _ = sizes[-1]
        return FaceTrack(landmarks_FN3, found_F, width, height)

    def follow(self, frames, on_frame=lambda: None) -> Followed:
        seen = self.find_faces(frames, on_frame)
        there = np.flatnonzero(seen.found_T).tolist()
        track = Track(0)
        for index in there:
            track.see(index, np.zeros((seen.height, seen.width, 3), np.uint8), seen.landmarks_TN3[index])
        return Followed([track] * bool(there), [], len(seen.found_T), seen.width, seen.height)


class Inverter:
    """A painter that inverts the colours inside a soft disc; it keeps what it was called with."""

    side_px = 256
    in_order = True

    calls: ClassVar[list[tuple[np.ndarray, ...]]] = []

    def __init__(self, generator, references_RHW3, reference_landmarks_RN2):
        assert references_RHW3.shape == (len(reference_landmarks_RN2), 256, 256, 3)
        assert references_RHW3.dtype == np.uint8

    def paint_each(self, frames_BHW3, several, regions_BV2, start=0, before=None):
        assert frames_BHW3.dtype == np.uint8
        [new_landmarks_FN2] = several
        assert (before is None) == (start == 0)
        self.calls.append((frames_BHW3, new_landmarks_FN2[start : start + len(frames_BHW3)], regions_BV2))
        return [255 - frames_BHW3], np.stack([disc()] * len(frames_BHW3))


@pytest.fixture(autouse=True)
def inverter(request, monkeypatch):
    """The stand-ins in the place of painter and detector, except in tests of the command."""
    if "models_on_disk" not in request.fixturenames:
        monkeypatch.setattr("mytalk.networks.appearance.painter.Painter", Inverter)
        monkeypatch.setattr(region, "regions", lambda landmarks_TN3: landmarks_TN3[:, :4])
        monkeypatch.setattr(first_pass, "find_faces", lambda frames, seer, *more: seer.find_faces(frames, *more))
        monkeypatch.setattr(first_pass, "follow", lambda frames, seer, *more: seer.follow(frames, *more))
    Inverter.calls = []


@pytest.fixture(scope="module")
def models() -> dubbing.Models:
    torch.manual_seed(0)
    network = MotionModel(TINY).eval()
    torch.nn.init.normal_(network.out.weight, std=0.3)  # it begins at zero, which says nothing
    generator = types.SimpleNamespace(config=types.SimpleNamespace(side_px=256, size_px=256))
    return dubbing.Models(network, generator)  # type: ignore[arg-type]


def sent(monkeypatch, tmp_path, found, new, models, speech_S, rate: int = 16_000) -> tuple[np.ndarray, np.ndarray]:
    """What `render` sends to the encoder: frames and sound."""
    kept = {}

    def keep(path, frames, fps, audio, rate, metadata, colour, layout):
        kept["frames"], kept["audio"] = np.stack(list(frames)), audio

    monkeypatch.setattr(media, "write_video", keep)
    source = person_reference(found, np.zeros(0, np.float32))
    dubbing.render(found, new, models, source, speech_S, tmp_path / "o.mp4", rate=rate)
    return kept["frames"], kept["audio"]


def own(found: first_pass.FirstPass) -> list[np.ndarray]:
    return [span.landmarks_FN3 for span in found.spans]


# Kept --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "width", "height"),
    [(25, 160, 120), (30, 160, 120), (NTSC, 160, 120), (60, 160, 120), (25, 161, 120), (30, 160, 121)],
)
def test_size_rate_and_length_are_kept_and_the_mark_is_there(tmp_path, models, fps, width, height):
    frames = 40
    video = film(tmp_path / "v.mp4", frames, fps, width, height)
    speech = wav(tmp_path / "s.wav", 5.0, 22_050)
    out = tmp_path / "new" / "o.mp4"
    (found,) = dubbing.dub(video, speech, out, models, Seer(swaying(frames, fps)), steps=2)
    assert (found.frames, found.width, found.height, found.fps) == (frames, width, height, Fraction(fps))
    before, after = media.probe(video), media.probe(out)
    assert (after.width, after.height, after.fps) == (width, height, pytest.approx(float(fps)))
    assert after.duration_s == pytest.approx(before.duration_s, abs=1e-3)
    assert after.audio_hz == 22_050
    pictures = list(media.read_frames(out, Fraction(fps)))
    assert len(pictures) == frames
    assert {picture.shape for picture in pictures} == {(height, width, 3)}
    comment = media.read_tags(out)["comment"]
    assert "synthetic" in comment
    assert "MyTalk" in comment
    assert comment.endswith("http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia")


def turned(path: Path) -> Path:
    """A film whose track header asks for a quarter turn: (160, 120) stored, (120, 160) seen."""
    data = film(path, 12).read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # version, times, ids and volume come before the matrix
    one, minus, nil = (0x10000).to_bytes(4, "big"), (-0x10000).to_bytes(4, "big", signed=True), bytes(4)
    path.write_bytes(data[:at] + nil + one + nil + minus + 4 * nil + data[at + 32 :])
    return path


def stretched(path: Path) -> Path:
    """A film of pixels twice as wide as high: (60, 160) stored, (120, 160) seen."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 60, 160, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2)
        for k in range(12):
            frame = av.VideoFrame.from_ndarray(np.full((160, 60, 3), 9 * k, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("made", [turned, stretched])
def test_a_video_comes_out_as_it_is_seen(tmp_path, models, made):
    video, out = made(tmp_path / "v.mp4"), tmp_path / "o.mp4"
    (found,) = dubbing.dub(
        video, wav(tmp_path / "s.wav", 1.0), out, models, Seer(swaying(12, centre=(60, 80))), steps=1
    )
    after = media.probe(out)
    assert (found.width, found.height) == (after.width, after.height) == (120, 160)
    pictures = [np.stack(list(media.read_frames(path))).astype(float) for path in (video, out)]
    assert np.abs(pictures[0] - pictures[1])[:, :20].mean() < 6  # above the face; another turn would differ by 50


def test_a_varying_rate_is_dubbed_at_its_mean(tmp_path, models):
    times = np.cumsum([0, *[20, 50, 33, 41, 27] * 6])
    video = numbered.write(tmp_path / "v.mkv", [Fraction(int(t), 1000) for t in times], tick_s=Fraction(1, 1000))
    fps = first_pass.frame_rate(video)
    frames = len(list(media.read_frames(video, fps)))
    out = tmp_path / "o.mp4"
    dubbing.dub(video, wav(tmp_path / "s.wav", 1.0), out, models, Seer(swaying(frames, fps, centre=(32, 32))), steps=1)
    assert len(list(media.read_frames(out, fps))) == frames
    assert media.probe(out).fps == pytest.approx(float(fps))
    assert abs(media.probe(out).duration_s - times[-1] / 1000) < 0.1


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


@pytest.mark.parametrize(("seconds", "heard_s"), [(3.0, 1.0), (0.5, 0.5)])
def test_speech_is_cut_or_followed_by_silence(tmp_path, models, capsys, seconds, heard_s):
    video, speech = film(tmp_path / "v.mp4", 25), wav(tmp_path / "s.wav", seconds, 44_100)
    dubbing.dub(video, speech, tmp_path / "o.mp4", models, Seer(swaying(25)), steps=1)
    heard = media.read_audio(tmp_path / "o.mp4", 44_100)
    assert len(heard) == pytest.approx(44_100, abs=1024)
    loud = np.flatnonzero(np.abs(heard) > 0.05)
    assert loud[0] < 500
    assert loud[-1] / 44_100 == pytest.approx(heard_s, abs=0.03)
    assert ("is cut" in capsys.readouterr().out) == (seconds > 1)


def test_any_file_with_sound_can_speak(tmp_path, models):
    video, speech = film(tmp_path / "v.mp4", 12), film(tmp_path / "other.mp4", 50, 30, hz=48_000)
    dubbing.dub(video, speech, tmp_path / "o.mp4", models, Seer(swaying(12)), steps=1)
    assert media.probe(tmp_path / "o.mp4").audio_hz == 48_000


def test_the_channels_of_the_speech_are_written(tmp_path, models):
    """Of a stereo speech, left and right, cut to the video; the model hears it mixed."""
    left, right = sounds.tone(2.0, pitch_hz=300), sounds.tone(2.0, pitch_hz=500, loud=0.1)
    speech = sounds.write(tmp_path / "s.wav", np.stack([left, right]), layout="stereo")
    video, out = film(tmp_path / "v.mp4", 25), tmp_path / "o.mp4"
    dubbing.dub(video, speech, out, models, Seer(swaying(25)), steps=1)
    heard_CS, layout = media.read_channels(out, 48_000, media.Notes())
    assert layout == "stereo"
    assert heard_CS.shape[1] == pytest.approx(48_000, abs=1024)
    for heard_S, said_S in zip(heard_CS, (left, right), strict=True):
        assert np.corrcoef(heard_S[2000:46_000], said_S[2000:46_000])[0, 1] > 0.99


def test_a_rate_that_aac_does_not_have_becomes_the_usual_one(tmp_path, models):
    video, speech = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0, 20_000)
    dubbing.dub(video, speech, tmp_path / "o.mp4", models, Seer(swaying(12)), steps=1)
    assert media.probe(tmp_path / "o.mp4").audio_hz == 48_000


@pytest.mark.parametrize(("known", "said"), [(True, "from the picture alone"), (False, "too wide or too narrow; name")])
def test_a_silent_video_is_dubbed_and_it_is_said(tmp_path, models, capsys, monkeypatch, known, said):
    """What is said hangs on whether the model has seen silent sources in training."""
    monkeypatch.setattr(models.motion, "knows_silent_sources", known)
    video, speech = film(tmp_path / "v.mp4", 12, hz=0), wav(tmp_path / "s.wav", 1.0)
    dubbing.dub(video, speech, tmp_path / "o.mp4", models, Seer(swaying(12)), steps=1)
    line = next(line for line in capsys.readouterr().out.splitlines() if "has no sound" in line)
    assert said in line
    assert len(list(media.read_frames(tmp_path / "o.mp4"))) == 12


def test_a_reference_is_what_the_models_see_of_the_person(tmp_path, models, monkeypatch):
    video, reference = film(tmp_path / "v.mp4", 20), film(tmp_path / "r.mp4", 40)
    seen = []
    monkeypatch.setattr(dubbing, "write_motion", lambda found, s, m, source, *_: seen.append(source) or own(found))
    seer = Seer(swaying(40))
    dubbing.dub(video, wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4", models, seer, Sources(reference, reference))
    assert len(seen[0].landmarks_UN3) == 40
    assert len(seen[0].audio_S) == 40 * SAMPLES_PER_FRAME


# Painted where -------------------------------------------------------------------------------------------


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


def test_it_is_said_in_how_many_frames_a_hand_is_kept(tmp_path, models, capsys):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 0.5), tmp_path / "o.mp4"
    across_K2 = np.stack([np.linspace(236, 276, 21), np.full(21, 288.0)], -1)
    said = []
    for hand_K2 in (across_K2, across_K2 + 200):
        keeper = hands.Hands(lambda picture, hand_K2=hand_K2: [hand_K2])
        dubbing.dub(video, speech, out, models, Seer(swaying(12)), steps=1, hands=keeper)
        said += [line for line in capsys.readouterr().out.splitlines() if "hand" in line]
    assert said == [f"{video}: in 12 frames a hand is before the mouth; it is not painted over"]


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


# Spans and source ---------------------------------------------------------------------------------------------


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


# Motion -------------------------------------------------------------------------------------------------------


def studied(frames: int, fps: float | Fraction, start: int = 0) -> first_pass.FirstPass:
    """A study with one span, made without a video."""
    heads = swaying(frames, fps, side_px=160, centre=(128.0, 120.0))
    span = first_pass.FaceSpan(start, start + frames, np.repeat(np.eye(3)[None, :2], len(heads), 0), heads)
    return first_pass.FirstPass(Path("none"), Fraction(fps), 256, 256, start + frames, [span])


def a_source(frames: int = 30) -> PersonReference:
    heads = swaying(frames, side_px=150, centre=(120.0, 130.0))
    sound = np.random.default_rng(3).uniform(-0.3, 0.3, frames * SAMPLES_PER_FRAME).astype(np.float32)
    return PersonReference(heads, sound, np.zeros((1, 256, 256, 3), np.uint8), heads[:1])


def test_at_25_fps_what_is_written_is_what_the_model_generates(models):
    found, source = studied(60, 25, start=10), a_source()
    speech = np.random.default_rng(4).uniform(-0.5, 0.5, 70 * SAMPLES_PER_FRAME).astype(np.float32)
    (got,) = dubbing.write_motion(found, speech, models.motion, source, seed=3, steps=4)
    clip = found.spans[0].landmarks_FN3
    own_speech = speech[10 * SAMPLES_PER_FRAME :]
    stretch = SourceStretch(source.landmarks_UN3, source.audio_S)
    expected = generation.generate(models.motion, without_mouth(clip), stretch, own_speech, 3, 4)
    assert np.abs(expected - clip)[:, NOISED].max() > 5
    np.testing.assert_allclose(got, expected, atol=2e-3)


def test_the_model_never_sees_the_mouth_that_is_replaced(models, monkeypatch):
    seen = []
    monkeypatch.setattr(generation, "generate", lambda m, clip, *a, **k: seen.append(clip) or clip)
    dubbing.write_motion(studied(40, 25), np.zeros(0, np.float32), models.motion, a_source(), 0, 2)
    assert (seen[0][:, NOISED] == 0).all()


@pytest.mark.parametrize("fps", [24, 25, NTSC, 30, 60])
def test_a_tracker_stays_exact_at_every_rate(models, monkeypatch, fps):
    """A stand-in that tells the true face of each moment of its 25 Hz clip: every frame gets its own mouth and pose."""
    start = 17
    truth = swaying(1000, 25 * 40, side_px=160, centre=(128.0, 120.0))  # 1 s, a thousand times
    sound = np.arange(2 * 16_000, dtype=np.float32)

    def tracked(model, clip, source, audio_S, *args, **kwargs):
        first_s = audio_S[0] / 16_000 - start / float(fps)
        at = np.rint((first_s + np.arange(len(clip)) / 25) * 1000).astype(int)
        assert np.abs(np.delete(clip - truth[np.minimum(at, 999)], NOISED, axis=1)).max() < 0.5
        return truth[np.minimum(at, 999)]

    monkeypatch.setattr(generation, "generate", tracked)
    frames = round(0.9 * fps)
    found = studied(frames, fps, start)
    (got,) = dubbing.write_motion(found, sound, models.motion, a_source(), 0, 2)
    (span,) = found.spans
    assert np.array_equal(np.delete(got, NOISED, axis=1), np.delete(span.landmarks_FN3, NOISED, axis=1))
    np.testing.assert_allclose(
        got[..., :2], span.landmarks_FN3[..., :2], atol=0.15
    )  # of 11 px of motion and 13 of the head


def test_motion_is_retimed_in_the_heads_frame_not_in_px(models, monkeypatch):
    """A head that shakes faster than 25 Hz can tell keeps its own movement, mouth included."""
    heads = swaying(1, side_px=160, centre=(128.0, 120.0)).repeat(60, axis=0)
    heads[::2, :, :2] += 6
    span = first_pass.FaceSpan(0, 60, np.repeat(np.eye(3)[None, :2], len(heads), 0), heads)
    found = first_pass.FirstPass(Path("none"), Fraction(60), 256, 256, 60, [span])
    monkeypatch.setattr(generation, "generate", lambda m, clip, *a, **k: _with_mouth_of(heads[0], clip))
    (got,) = dubbing.write_motion(found, np.zeros(0, np.float32), models.motion, a_source(), 0, 2)
    np.testing.assert_allclose(got[..., :2], heads[..., :2], atol=1e-2)


@pytest.mark.parametrize("fps", [24, 25, NTSC, 50])
def test_promises_hold_in_the_landmarks_that_are_written(models, fps):
    """Closed lips within 0.1 px of their limit, a mouth still within 0.01 px, keyframes within 0.01 px, at any rate."""
    frames, source = round(3 * fps), a_source()
    found = studied(frames, fps, start=10)
    (span,) = found.spans
    speech = np.random.default_rng(4).uniform(-0.5, 0.5, 5 * SAMPLE_HZ).astype(np.float32)
    begin_s = float(10 / Fraction(fps))
    closed_s, still_s = (begin_s + 0.5, begin_s + 0.6), (begin_s + 1.0, begin_s + 1.5)
    edited = span.landmarks_FN3[[frames - 9, frames - 3]].copy()
    edited[:, NOISED, 1] += 4
    control = Control(1.3, [closed_s], [still_s], Keyframes(np.array([frames + 1, frames + 7]), edited, float(fps)))
    (got,) = dubbing.write_motion(found, speech, models.motion, source, 3, 4, control=control)
    head = long_form.person_head(source.landmarks_UN3)
    lower = long_form.lower_face(got, head)
    mouth = mouth_of(long_form.lower_face(source.landmarks_UN3, head))
    first, last = (round(moment_s * float(fps)) - 10 for moment_s in closed_s)
    assert mouth.opening(lower[first : last + 1]).max() < mouth.closed_px + 0.1
    first, last = (round(moment_s * float(fps)) - 10 for moment_s in still_s)
    assert np.ptp(lower[first : last + 1], axis=0).max() < 0.01
    np.testing.assert_allclose(got[[frames - 9, frames - 3]][:, NOISED, :2], edited[:, NOISED, :2], atol=0.01)
    np.testing.assert_array_equal(np.delete(got, NOISED, axis=1), np.delete(span.landmarks_FN3, NOISED, axis=1))


def test_promises_hold_over_the_edges_of_windows(models, monkeypatch):
    monkeypatch.setattr(models.motion, "window_frames", 40)
    found, source = studied(100, 25), a_source()
    control = Control(still_s=[(0.4, 3.6)], closed_s=[(0.2, 0.2), (3.8, 3.9)])
    (got,) = dubbing.write_motion(found, np.zeros(0, np.float32), models.motion, source, 3, 4, control=control)
    head = long_form.person_head(source.landmarks_UN3)
    lower = long_form.lower_face(got, head)
    assert np.ptp(lower[10:91], axis=0).max() < 0.01
    mouth = mouth_of(long_form.lower_face(source.landmarks_UN3, head))
    assert mouth.opening(lower[[5, 95, 96, 97]]).max() < mouth.closed_px + 0.1


def test_amplitude_multiplies_what_differs_from_the_persons_mean(models):
    found, source = studied(40, 25), a_source()
    speech = np.random.default_rng(4).uniform(-0.5, 0.5, 40 * SAMPLES_PER_FRAME).astype(np.float32)
    head = long_form.person_head(source.landmarks_UN3)
    mean_K2 = long_form.lower_face(source.landmarks_UN3, head).mean(0)
    half, whole = (
        long_form.lower_face(
            dubbing.write_motion(found, speech, models.motion, source, 3, 4, control=Control(amplitude))[0], head
        )
        for amplitude in (0.5, 1.0)
    )
    np.testing.assert_allclose(half - mean_K2, (whole - mean_K2) / 2, atol=1e-3)


def test_keyframes_must_be_of_frames_that_are_dubbed_at_their_rate(tmp_path, models):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    for frame, fps, said in (
        (11, 25.0, None),
        (12, 25.0, "in frame 12 no face is dubbed"),
        (11, 30.0, "of other times"),
    ):
        control = Control(keyframes=Keyframes(np.array([frame]), swaying(1), fps))
        if said is None:
            dubbing.dub(video, speech, tmp_path / "fits.mp4", models, Seer(swaying(12)), steps=1, control=control)
        else:
            refused(said, out, video, speech, out, models, Seer(swaying(12)), control=control)


def _with_mouth_of(face: np.ndarray, clip: np.ndarray) -> np.ndarray:
    """The clip with the lower face of `face` on each frame's own pose."""
    head = long_form.person_head(face[None])
    return long_form.with_lower_face(clip, long_form.lower_face(face[None], head).repeat(len(clip), axis=0), head)


def test_windows_cover_a_clip_and_overlap():
    assert long_form.windows(250) == [(0, 250)]
    assert long_form.windows(251) == [(0, 250), (1, 251)]
    assert long_form.windows(450) == [(0, 250), (200, 450)]
    assert long_form.windows(7) == [(0, 7)]
    for frames in range(251, 1300, 37):
        windows = long_form.windows(frames)
        assert windows[0][0] == 0
        assert windows[-1][1] == frames
        assert all(b - a == 250 for a, b in windows)
        assert all(after[0] <= before[1] - 50 for before, after in itertools.pairwise(windows))


@pytest.mark.parametrize("window", [1, 3, 64, 199, 201, 400])
def test_windows_are_as_long_as_the_models_and_overlap_by_a_quarter(window):
    for frames in (1, window, window + 1, 5 * window - 2):
        windows = long_form.windows(frames, window)
        assert sorted({i for a, b in windows for i in range(a, b)}) == list(range(frames))
        assert all(b - a == min(frames, window) for a, b in windows)
        assert all(b[0] <= a[1] - min(50, window // 4) for a, b in itertools.pairwise(windows))
    assert long_form.windows(125, 64) == [(0, 64), (48, 112), (61, 125)]


def long_clip(frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Landmarks and a sound whose samples tell the frame's number."""
    return swaying(frames, side_px=160), np.repeat(np.arange(frames), SAMPLES_PER_FRAME).astype(np.float32)


def of_windows(window_frames: int) -> MotionModel:
    """As much of a motion model as `long.generate` looks at."""
    config = types.SimpleNamespace(slow_frames=12.0)
    return types.SimpleNamespace(window_frames=window_frames, config=config)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("frames", "window"), [(250, 250), (251, 250), (430, 250), (700, 250), (125, 64), (130, 64), (9, 2)]
)
def test_an_exact_tracker_stays_exact_over_windows(monkeypatch, frames, window):
    truth, sound = long_clip(frames)

    def tracked(model, clip, source, audio_S, *args, context, first_frame, **kwargs):
        begin, (before, after) = int(audio_S[0]), context
        assert (before, after) == (min(36, first_frame), min(36, frames - begin - len(clip) + after))
        assert len(clip) - before - after == min(frames, window)
        assert len(audio_S) == len(clip) * SAMPLES_PER_FRAME
        assert first_frame == begin + before
        return truth[begin + before : begin + len(clip) - after]

    monkeypatch.setattr(generation, "generate", tracked)
    clip, source = without_mouth(truth), SourceStretch(a_source().landmarks_UN3)
    got = long_form.generate(of_windows(window), clip, source, sound, 0, 2)
    np.testing.assert_allclose(got[..., :2], truth[..., :2], atol=1e-3)


def test_windows_that_disagree_are_faded_on_a_line(monkeypatch):
    """Each window answers a constant, its own: constant in the windows, linear between, in the head's frame."""
    truth, sound = long_clip(450)
    source = SourceStretch(a_source().landmarks_UN3)
    head = long_form.person_head(source.landmarks_UN3)
    answers = iter([0.0, 10.0])

    def constant(model, clip, *args, context, **kwargs):
        clip = clip[context[0] : len(clip) - context[1]]
        return long_form.with_lower_face(clip, np.full((len(clip), len(NOISED), 2), next(answers)), head)

    monkeypatch.setattr(generation, "generate", constant)
    got = long_form.lower_face(long_form.generate(of_windows(250), truth, source, sound, 0, 2), head)
    expected = 10 * np.clip((np.arange(450) - 199) / 51, 0, 1)
    np.testing.assert_allclose(got, np.broadcast_to(expected[:, None, None], got.shape), atol=1e-3)


def windows_of(model, clip, sound, monkeypatch, sigmas: float) -> tuple[list[np.ndarray], np.ndarray]:
    """The lower faces of each window of a clip, and of all joined, where so much beyond a window is read."""
    source = SourceStretch(a_source().landmarks_UN3, a_source().audio_S)
    head, written, generate = long_form.person_head(source.landmarks_UN3), [], generation.generate

    def kept(*args, **kwargs):
        written.append(generate(*args, **kwargs))
        return written[-1]

    monkeypatch.setattr(long_form, "CONTEXT_SIGMAS", sigmas)
    monkeypatch.setattr(generation, "generate", kept)
    joined_TK2 = long_form.lower_face(long_form.generate(model, clip, source, sound, 1, 1), head)
    monkeypatch.setattr(generation, "generate", generate)
    return [long_form.lower_face(window_TN3, head) for window_TN3 in written], joined_TK2


def test_windows_agree_at_their_seams_because_they_read_beyond_their_ends(models, monkeypatch):
    """Speech and slow pose alone tell windows apart here; cut off at its ends, each would write other shared frames."""
    model = copy.deepcopy(models.motion)
    model.window_frames = 64
    for block in [*model.blocks, *model.speech_blocks]:
        for weight in block.attention.out.parameters():
            torch.nn.init.zeros_(weight)
    random, spans = np.random.default_rng(4), long_form.windows(160, 64)
    sound = (random.uniform(-0.5, 0.5, (160, 640)) * random.uniform(0, 1, (160, 1))).astype(np.float32).ravel()
    clip, seams_T = without_mouth(swaying(160, side_px=160)), np.zeros(159, bool)
    apart_px = {}
    for sigmas in (long_form.CONTEXT_SIGMAS, 0.0):
        windows, joined_TK2 = windows_of(model, clip, sound, monkeypatch, sigmas)
        apart = []
        for (start, one_TK2), (after, other_TK2) in itertools.pairwise(zip([a for a, _ in spans], windows)):
            shared = start + 64 - after
            apart.append(np.linalg.norm(one_TK2[-shared:] - other_TK2[:shared], axis=-1).mean())
            seams_T[after : start + 64] = True
        apart_px[sigmas > 0] = np.mean(apart)
        speed_T = np.linalg.norm(np.diff(joined_TK2, axis=0), axis=-1).mean(1)
        assert speed_T[seams_T].mean() < 1.1 * speed_T[~seams_T].mean()
    assert apart_px[True] < 0.5 * apart_px[False]


def test_a_short_clip_is_the_models_own_answer(models):
    truth, _ = long_clip(30)
    source = SourceStretch(a_source().landmarks_UN3, a_source().audio_S)
    sound = np.zeros(30 * SAMPLES_PER_FRAME, np.float32)
    got = long_form.generate(models.motion, truth, source, sound, 5, 2)
    expected = generation.generate(models.motion, truth, source, sound, 5, 2)
    np.testing.assert_allclose(got, expected, atol=1e-4)


# Refused ------------------------------------------------------------------------------------------------------


def refused(match: str, out: Path, *args, **kwargs) -> None:
    """`dub` raises one line that says `match`, and leaves nothing new in the folder of OUT."""
    before = {path: path.stat().st_mtime_ns for path in out.parent.iterdir()}
    with pytest.raises(UserError, match=match) as caught:
        dubbing.dub(*args, **kwargs)
    assert "\n" not in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in out.parent.iterdir()} == before


def test_bad_input_is_refused_in_one_line(tmp_path, models):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    mute, text = film(tmp_path / "mute.mp4", 12, hz=0), tmp_path / "text.mp4"
    text.write_bytes(b"not a video" * 99)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(video.read_bytes()[:-900])
    heads = swaying(12)
    seer = Seer(heads)
    refused("no face in .*v.mp4; name", out, video, speech, out, models, Seer(heads, range(12)))
    refused("no face stays for 5 frames", out, video, speech, out, models, Seer(heads, range(4, 12)))
    refused("no audio stream; name a file with sound", out, video, mute, out, models, seer)
    refused("no video stream; name a video", out, speech, speech, out, models, seer)
    refused("text.mp4: .*; copy the file again", out, text, speech, out, models, seer)
    refused("cut.mp4: .*; copy the file again", out, cut, speech, out, models, seer)
    refused("is read and cannot be written", out, video, speech, video, models, seer)
    refused("is read and cannot be written", out, video, video, tmp_path / "sub" / ".." / "v.mp4", models, seer)
    refused("is read and cannot be written", out, video, speech, mute, models, seer, Sources(motion=mute))
    (tmp_path / "linked.mp4").hardlink_to(video)
    refused("is read and cannot be written", out, video, speech, tmp_path / "linked.mp4", models, seer)
    refused("does not end in .mp4.* name it o.mp4", out, video, speech, tmp_path / "o.avi", models, seer)
    refused("is a file and cannot hold", out, video, speech, speech / "o.mp4", models, seer)
    (tmp_path / "folder.mp4").mkdir()
    for folder in (tmp_path / "folder.mp4", Path(), Path("."), Path("/"), Path("..")):
        refused("is a folder; name a file in it", out, video, speech, folder, models, seer)
    with pytest.raises(FileNotFoundError):
        dubbing.dub(tmp_path / "none.mp4", speech, out, models, seer)


def test_what_cannot_be_done_is_refused_before_any_face_is_looked_for(tmp_path, models, monkeypatch):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    nobody: Seer = None  # type: ignore[assignment]
    refused("--sheet .*: is to be|name it a.png", out, video, speech, out, models, nobody, sheet=tmp_path / "a.jpg")
    refused("leave one of them out", out, video, speech, out, models, nobody, Sources(video, video), face=Choice("all"))
    text = tmp_path / "text.wav"
    text.write_bytes(b"not a sound" * 99)
    refused("text.wav: .*; copy the file again", out, video, text, out, models, nobody)
    one = film(tmp_path / "one.mp4", 1)
    refused("one.mp4 has 1 of the 5 frames .*; name a longer video", out, one, speech, out, models, nobody)
    refused("one.mp4 has 1 of the 5 frames", out, video, speech, out, models, nobody, Sources(appearance=one))
    probed = media.probe(video)
    with monkeypatch.context() as patch:
        patch.setattr(media, "probe", lambda path: dataclasses.replace(probed, width=7680, height=4320))
        refused("pictures of 7680 x 4320 px, more than can be dubbed", out, video, speech, out, models, nobody)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: types.SimpleNamespace(free=1000))
        refused("has 0.0 MB free, and .*free some space", out, video, speech, out, models, nobody)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", read_only)
        refused("cannot be written .*name an OUT in another folder", out, video, speech, out, models, nobody)


def read_only(dir: Path):
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_name_of_out_that_is_too_long_is_refused_before_anything_is_read(tmp_path, models):
    """The file is written under a longer, temporary name."""
    video, speech = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 1.0)
    fits, out = (tmp_path / ("o" * (LONGEST_NAME_BYTES - 4 + more) + ".mp4") for more in (0, 1))
    said = f"has a name of more than {LONGEST_NAME_BYTES} bytes; name a shorter OUT"
    refused(said, out, video, speech, out, models, Seer(swaying(12)))
    dubbing.dub(video, speech, fits, models, Seer(swaying(12)), steps=1)
    assert fits.exists()


def test_a_video_and_a_speech_that_break_off_are_used_and_it_is_said(tmp_path, models, capsys):
    video, speech = tmp_path / "v.mkv", tmp_path / "s.wav"
    whole = numbered.write(video, numbered.regular(60), audio=np.full(48_000 * 2, 0.1, np.float32), side_px=128)
    video.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    speech.write_bytes(wav(speech, 3.0).read_bytes()[:-40_000])
    (found,) = dubbing.dub(video, speech, tmp_path / "o.mp4", models, Seer(swaying(60, centre=(64.0, 64.0))), steps=1)
    assert 25 < found.frames < 60
    assert len(list(media.read_frames(tmp_path / "o.mp4"))) == found.frames
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if line.startswith(f"{video}: breaks off at")]
    assert [line for line in said if line.startswith(f"{speech}: breaks off at") and "is used" in line]


def test_a_dubbed_video_keeps_the_tags_of_its_colours(tmp_path, models):
    video, hdr = tmp_path / "v.mp4", media.Colour(9, 9, 18)
    pictures = [np.full((128, 128, 3), 90, np.uint8)] * 12
    media.write_video(video, pictures, 25, np.zeros(8000, np.float32), colour=hdr)
    dubbing.dub(video, wav(tmp_path / "s.wav", 0.4), tmp_path / "o.mp4", models, Seer(swaying(12)), steps=1)
    assert media.probe(tmp_path / "o.mp4").colour == hdr


def test_a_failed_run_leaves_the_old_result_and_no_temporary(tmp_path, models, monkeypatch):
    video, speech, out = film(tmp_path / "v.mp4", 40), wav(tmp_path / "s.wav", 1.0), tmp_path / "o.mp4"
    out.write_bytes(b"old")

    def fails(self, frames_BHW3, *_):
        Inverter.calls.append(())
        if len(Inverter.calls) == 2:
            raise RuntimeError("no memory")
        return [frames_BHW3], np.zeros(frames_BHW3.shape[:3], np.float32)

    monkeypatch.setattr(Inverter, "paint_each", fails)
    with pytest.raises(RuntimeError):
        dubbing.dub(video, speech, out, models, Seer(swaying(40)), steps=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o.mp4", "s.wav", "v.mp4"]
    assert out.read_bytes() == b"old"


# The command, with the real detector and painter ------------------------------------------------------------------

NEEDED = ("mediapipe", "espeakng_loader", "cv2")
drawn_person = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDED), reason="needs the extras landmarks and demo"
)


@pytest.fixture(scope="module")
def models_on_disk(tmp_path_factory) -> Path:
    """A folder with the smallest models, untrained."""
    from mytalk.networks.appearance import files as appearance_files
    from mytalk.networks.appearance.config import AppearanceConfig
    from mytalk.networks.appearance.generator import Generator
    from mytalk.networks.motion import files as motion_files

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models")
    motion_files.save_model(MotionModel(TINY).state_dict(), TINY, folder / "motion")
    config = AppearanceConfig(size_px=64, channels=(8, 16), blocks=(1, 1), heads=2, discriminator_channels=8)
    appearance_files.save_model(Generator(config).state_dict(), config, folder / "appearance")
    return folder


@pytest.fixture(scope="module")
def person(tmp_path_factory) -> Path:
    """Two seconds of a drawn person who speaks, at 30 fps."""
    from data_pipeline.synthetic import command as drawn

    folder, name = tmp_path_factory.mktemp("person"), "p000/c00.mp4"
    (folder / name).parent.mkdir()
    corpus = drawn.Corpus(identities=1, clips_per_identity=1, seed=3, seconds=2, size=256, broken=False)
    drawn.draw(folder, corpus, drawn.DrawnClip(name, 0, 0, fps=30))
    return folder / name


def typed(person: Path, out: Path, models_on_disk: Path, *more: str) -> list[str]:
    folders = ["--motion", str(models_on_disk / "motion")]
    if "--appearance" not in more:  # which may be repeated
        folders += ["--appearance", str(models_on_disk / "appearance")]
    return ["-m", "mytalk", "dub", str(person), str(person), "-o", str(out), *folders, "--steps", "2", *more]


@drawn_person
def test_the_command_dubs_a_drawn_person(command, person, models_on_disk, tmp_path):
    out = tmp_path / "new" / "o.mp4"
    done = command(*typed(person, out, models_on_disk))
    assert done.returncode == 0, done.stderr
    assert "60 frames dubbed, 0 without a face left as they are; marked as synthetic" in done.stdout
    assert "in its metadata; took " in done.stdout
    assert "find the faces 60/60 100%" in done.stderr
    assert "paint 60/60 100%" in done.stderr
    assert [path.name for path in out.parent.iterdir()] == ["o.mp4"]
    before, after = (np.stack(list(media.read_frames(path, 30))).astype(float) for path in (person, out))
    assert before.shape == after.shape
    away_HW = np.abs(before - after).mean(axis=(0, 3))
    assert away_HW[:100].mean() < 3  # the codec's
    assert away_HW[130:230].max() > 40  # an untrained painter's
    heard, said = media.read_audio(out), media.read_audio(person)
    assert np.corrcoef(heard[:31_000], said[:31_000])[0, 1] > 0.95
    assert "synthetic" in media.read_tags(out)["comment"]


@drawn_person
def test_motion_is_written_as_a_file_edited_and_held(person, models_on_disk, tmp_path, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own process keeps its signals
    first, second, overlay = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "a.mp4"
    files = [str(person), str(person), "--motion", str(models_on_disk / "motion"), "--steps", "1"]
    assert main("mytalk", "", COMMANDS, ["motion", *files, "-o", str(first), "--overlay", str(overlay)]) == 0
    written = motion_file.read(first)
    assert written.frames_M.tolist() == list(range(60))
    before, after = (np.stack(list(media.read_frames(path, 30))).astype(float) for path in (person, overlay))
    x, y = written.landmarks_MN3[30, 13, :2].round().astype(int)
    assert np.abs(before - after)[30, y - 2 : y + 3, x - 2 : x + 3].max() > 60
    assert "synthetic" in media.read_tags(overlay)["comment"]
    edited = written.landmarks_MN3[[20, 30]]
    edited[:, NOISED, 1] += 5
    motion_file.write(tmp_path / "edited.npz", Keyframes(np.array([20, 30]), edited, 30.0))
    more = ["--keyframes", str(tmp_path / "edited.npz"), "--still", "--close-lips", "phones", "--amplitude", "0.9"]
    assert main("mytalk", "", COMMANDS, ["motion", *files, "-o", str(second), *more]) == 0
    held = motion_file.read(second).landmarks_MN3
    np.testing.assert_allclose(held[[20, 30]][:, NOISED, :2], edited[:, NOISED, :2], atol=0.05)


@drawn_person
def test_the_command_says_in_one_line_what_is_wrong(person, models_on_disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' own process keeps its signals
    swapped = shutil.copytree(models_on_disk, tmp_path / "models")
    config, painter = (swapped / name / "config.json" for name in ("motion", "appearance"))
    config.write_text(config.read_text().replace('"hidden": 32', '"hidden": 64'))
    assert "16" in painter.read_text()
    painter.write_text(painter.read_text().replace("16", "24"))
    whole = ("--motion", str(models_on_disk / "motion"))
    out = tmp_path / "o.mp4"
    for more, said in (
        ((), "do not fit its config"),
        (whole, "appearance do not fit its config"),
        ((*whole, "--appearance", str(models_on_disk / "motion")), "not an appearance model"),
        (("--motion", str(tmp_path / "none")), "train one with: python -m train motion"),
        (("--steps", "0"), "steps must be 1 or more"),
        (("--amplitude", "0"), "must be above 0"),
        (("--close-lips", str(config)), "are to be numbers of seconds"),
        (("--keyframes", str(config)), "is no motion file"),
        (("--reference", "a", "--motion-source", "b", "--appearance-source", "c"), "leave one of the three out"),
        (("--reference", str(out)), "is read and cannot be written"),
    ):
        code = main("mytalk", "", COMMANDS, typed(person, out, swapped, *more)[2:])
        (line,) = capsys.readouterr().err.splitlines()
        assert code == 1
        assert said in line
        assert [path.name for path in tmp_path.iterdir()] == ["models"]


@drawn_person
def test_a_model_that_always_heard_speech_is_not_guided(person, models_on_disk, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    assert main("mytalk", "", COMMANDS, typed(person, tmp_path / "o.mp4", models_on_disk, "--guidance", "2")[2:]) == 1
    assert "was trained without speech_dropout; leave it out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@drawn_person
def test_a_command_stopped_while_it_paints_leaves_nothing(person, models_on_disk, tmp_path):
    code, said = stopped(typed(person, tmp_path / "o.mp4", models_on_disk), lambda: any(tmp_path.iterdir()))
    assert code == EXIT_INTERRUPTED, said
    assert "interrupted; nothing was written; the same command starts anew" in said
    assert list(tmp_path.iterdir()) == []


def test_help_is_quick_and_has_an_example(tmp_path):
    """Nothing heavy is imported for it."""
    heavy = "import sys; from mytalk.dub.commands.dub import arguments; arguments().format_help(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", heavy], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "mediapipe", "cv2"} & set(done.stdout.split())
    assert "python -m mytalk dub actor.mp4 speech.wav -o dubbed.mp4" in dub_command.arguments().format_help()

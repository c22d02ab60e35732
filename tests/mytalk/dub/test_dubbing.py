"""What a dub keeps of its video and of the speech, what it says, and what a failed one leaves."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mytalk import media
from mytalk.dub import dubbing, first_pass, hands
from mytalk.dub.person import Sources
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from tests.helpers import numbered, sounds
from tests.helpers.heads import swaying
from tests.helpers.stand_ins import NTSC, Inverter, Seer, film, own, wav

pytestmark = pytest.mark.usefixtures("stand_ins")


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


@pytest.mark.parametrize("kind", ["a video", "a rate that AAC does not have"])
def test_any_sound_can_speak_and_gets_a_rate_that_aac_has(tmp_path, models, kind):
    speech = film(tmp_path / "s.mp4", 50, 30, hz=48_000) if kind == "a video" else wav(tmp_path / "s.wav", 1, 20_000)
    dubbing.dub(film(tmp_path / "v.mp4", 12), speech, tmp_path / "o.mp4", models, Seer(swaying(12)), steps=1)
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


def test_it_is_said_in_how_many_frames_a_hand_is_kept(tmp_path, models, capsys):
    video, speech, out = film(tmp_path / "v.mp4", 12), wav(tmp_path / "s.wav", 0.5), tmp_path / "o.mp4"
    across_K2 = np.stack([np.linspace(236, 276, 21), np.full(21, 288.0)], -1)
    said = []
    for hand_K2 in (across_K2, across_K2 + 200):
        keeper = hands.Hands(lambda picture, hand_K2=hand_K2: [hand_K2])
        dubbing.dub(video, speech, out, models, Seer(swaying(12)), steps=1, hands=keeper)
        said += [line for line in capsys.readouterr().out.splitlines() if "hand" in line]
    assert said == [f"{video}: in 12 frames a hand is before the mouth; it is not painted over"]


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

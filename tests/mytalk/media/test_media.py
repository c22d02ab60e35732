"""Media by time: which picture is shown when, where the sound lies, and what is refused."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mytalk import media
from tests.helpers import numbered

RATES = [Fraction(12), Fraction(24), Fraction(25), Fraction(30_000, 1001), Fraction(30), Fraction(50), Fraction(60)]


def shown(path: Path, **kwargs) -> list[int]:
    return [numbered.number(frame) for frame in media.read_frames(path, **kwargs)]


def nearest(times_s: list[Fraction], index: int, fps: int = 25) -> int:
    """Closed form: a picture is shown from the middle between it and the one before on, the latter's own; across more
    than 0.1 s from its time on."""
    from_s = [Fraction(0)]
    for before_s, time_s in itertools.pairwise(times_s):
        middle_s = (before_s + time_s) / 2 + Fraction(1, 10**9)
        from_s.append((middle_s if time_s - before_s <= Fraction(1, 10) else time_s) - times_s[0])
    return max(k for k, begin_s in enumerate(from_s) if begin_s <= Fraction(index, fps))


@pytest.mark.parametrize("rate", RATES, ids=str)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_constant_rates_are_read_by_time(tmp_path, rate, suffix):
    count = int(rate * 2)
    times = numbered.regular(count, rate)
    path = numbered.write(tmp_path / f"v.{suffix}", times, rate=rate, tick_s=1 / (rate * 1000))
    if suffix == "mkv":  # it keeps milliseconds
        times = [Fraction(round(time_s * 1000), 1000) for time_s in times]
    got = shown(path)
    assert len(got) == round(count / rate * 25)
    assert got == [nearest(times, i) for i in range(len(got))]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    gaps_ms=st.lists(st.integers(5, 300), min_size=3, max_size=30),
    start_ms=st.integers(0, 700),
    suffix=st.sampled_from(["mp4", "mkv"]),
)
@example(gaps_ms=[61, 300, 300, 300, 5], start_ms=0, suffix="mkv")  # its second packet has no decoding stamp
def test_variable_rate_is_read_by_time(tmp_path, gaps_ms, start_ms, suffix):
    times = [Fraction(start_ms + sum(gaps_ms[:k]), 1000) for k in range(len(gaps_ms))]
    path = numbered.write(tmp_path / f"v.{suffix}", times, tick_s=Fraction(1, 1000))
    got = shown(path)
    assert got == [nearest(times, i) for i in range(len(got))]
    assert (len(got) + 1) / Fraction(25) > times[-1] - times[0]  # to the end, the last may be half a frame short


def test_a_window_of_frames_is_that_part_of_all(tmp_path):
    path = numbered.write(tmp_path / "v.mp4", numbered.regular(60, 30), rate=30)
    assert shown(path, start=7, stop=20) == shown(path)[7:20]
    assert shown(path, fps=30) == list(range(60))


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "aac"), ("mov", "pcm_s16le"), ("mkv", "aac"), ("mkv", "flac"), ("ts", "aac")]
)
@pytest.mark.parametrize(("video_start_s", "audio_start_s"), [(0, 0), (0.4, 0), (0, 0.32)])
def test_sound_and_picture_are_aligned(tmp_path, suffix, codec, video_start_s, audio_start_s):
    """A click placed where picture 30 begins is heard there, whatever the container's start times."""
    times = numbered.regular(50, 25, start_s=video_start_s)
    sound = numbered.click(2.5, 1.2 + video_start_s - audio_start_s)
    path = numbered.write(tmp_path / f"v.{suffix}", times, audio=sound, audio_start_s=audio_start_s, audio_codec=codec)
    assert shown(path)[30] == 30
    audio = media.read_audio(path)
    assert audio.dtype == np.float32
    loud = np.flatnonzero(np.abs(audio) > 0.3)
    assert abs(loud[0] / 16 - 1200) <= 3


def test_a_gap_in_the_sound_is_silence_of_its_length(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for begin in (0, 16_000):  # half a second of tone at 0 s and at 1 s
            tone = (np.sin(np.arange(8000) * 0.5) * 20_000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), begin
            for packet in stream.encode(frame):
                container.mux(packet)
    audio = media.read_audio(path)
    assert len(audio) == 24_000
    assert np.abs(audio[8100:15_900]).max() < 1e-3
    assert np.sqrt((audio[:8000] ** 2).mean()) == pytest.approx(20_000 / 32_768 / np.sqrt(2), rel=0.01)
    assert np.sqrt((audio[16_000:] ** 2).mean()) == pytest.approx(20_000 / 32_768 / np.sqrt(2), rel=0.01)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.9])
@pytest.mark.parametrize(
    ("suffix", "options"),
    [("mp4", {"movflags": "faststart"}), ("mp4", {}), ("mkv", {}), ("avi", {})],
    ids=["faststart", "mp4", "mkv", "avi"],
)
def test_a_file_that_breaks_off_gives_what_decodes_and_says_so(tmp_path, suffix, options, share):
    noise = np.random.default_rng(0).normal(0, 0.1, 48_000 * 4).astype(np.float32)
    codec = "aac" if suffix != "avi" else "pcm_s16le"
    path = tmp_path / f"v.{suffix}"
    numbered.write(path, numbered.regular(100), audio=noise, options=options, audio_codec=codec, tick_s=Fraction(1, 25))
    assert len(shown(path)) == 100
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    if (suffix, options) == ("mp4", {}):  # its index is at the end
        with pytest.raises(media.MediaError) as caught:
            shown(cut)
        assert caught.value.reason == "truncated"
        return
    notes = media.Notes()
    some = shown(cut, notes=notes)
    sure = len(some) - 4  # pictures lie in the file in another order than shown: one before the last may be missing
    assert some[:sure] == list(range(sure))
    assert set(some) <= set(range(len(some) + 2))
    assert 100 * share - 35 < len(some) < 100
    assert notes.pictures_cut.reason in ("truncated", "corrupt")
    assert notes.cut_s == pytest.approx(len(some) / 25)
    heard_S, whole_S = media.read_audio(cut, notes=notes), media.read_audio(path)
    assert notes.sound_cut is not None
    assert 0.5 < len(heard_S) / 640 / len(some) < 2
    inside = len(heard_S) - 1100  # the last packet may be half there
    assert np.abs(heard_S[:inside] - whole_S[:inside]).max() < 1e-3
    frames = media.read_frames(cut)  # nobody takes notes
    assert [numbered.number(next(frames)) for _ in some] == some
    with pytest.raises(media.MediaError) as caught:
        next(frames)
    assert caught.value.reason == notes.pictures_cut.reason
    with pytest.raises(media.MediaError):
        media.read_audio(cut)
    assert [numbered.number(frame) for frame in media.read_frames(cut, stop=len(some))] == some  # as a second pass does


def test_reasons_of_refusal(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"not a video at all" * 100)
    with pytest.raises(media.MediaError) as caught:
        media.probe(path)
    assert caught.value.reason == "unreadable"
    path.write_bytes(b"")
    with pytest.raises(media.MediaError) as caught:
        media.probe(path)
    assert caught.value.reason == "unreadable"
    numbered.write(path, numbered.regular(10))
    with pytest.raises(media.MediaError) as caught:
        media.read_audio(path)
    assert caught.value.reason == "no_audio"
    with pytest.raises(FileNotFoundError):
        media.probe(tmp_path / "missing.mp4")


def test_what_is_written_is_read_back(tmp_path):
    rng = np.random.default_rng(0)
    sound = numbered.click(2.0, 1.0, 16_000)
    colours = rng.integers(40, 215, (50, 3))
    frames = [np.broadcast_to(colour, (64, 96, 3)).astype(np.uint8) for colour in colours]
    path = tmp_path / "new" / "v.mp4"
    media.write_video(path, frames, 25, sound, 16_000)
    back = np.stack(list(media.read_frames(path)))
    assert back.shape == (50, 64, 96, 3)
    assert np.abs(back.astype(float).mean(axis=(1, 2)) - colours).max() < 4
    audio = media.read_audio(path)
    assert abs(int(np.flatnonzero(np.abs(audio) > 0.3)[0]) - 16_000) < 32
    assert media.probe(path) == media.Probe(96, 64, 25.0, 2.0, 16_000, media.Colour())


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 96), (64, 97), (65, 97), (720, 1280)])
def test_a_written_video_keeps_size_and_colours_and_says_how_they_are_stored(tmp_path, height, width):
    """Odd sizes too; and players need not guess the colour matrix from the size."""
    colours = np.random.default_rng(1).integers(40, 215, (3, 3))
    path = tmp_path / "v.mp4"
    media.write_video(path, [np.broadcast_to(colour, (height, width, 3)).astype(np.uint8) for colour in colours], 25)
    back = np.stack(list(media.read_frames(path)))
    assert back.shape == (3, height, width, 3)
    assert np.abs(back.astype(float).mean(axis=(1, 2)) - colours).max() < 4
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.colorspace == 6  # BT.601, in H.264's table of matrices


def test_tags_are_read_back(tmp_path):
    path = tmp_path / "v.mp4"
    media.write_video(path, [numbered.picture(0)] * 3, 25, metadata={"comment": "made; é http://x.org", "title": "t"})
    tags = media.read_tags(path)
    assert (tags["comment"], tags["title"]) == ("made; é http://x.org", "t")
    assert "comment" not in media.read_tags(numbered.write(tmp_path / "w.mp4", numbered.regular(3)))


def test_the_rate_of_the_sound_is_told_with_and_without_pictures(tmp_path):
    path = numbered.write(tmp_path / "v.mp4", numbered.regular(9), audio=numbered.click(0.4, 0.1), audio_hz=44_100)
    assert media.audio_hz(path) == 44_100
    with pytest.raises(media.MediaError) as caught:
        media.audio_hz(numbered.write(tmp_path / "w.mp4", numbered.regular(9)))
    assert caught.value.reason == "no_audio"


@pytest.mark.parametrize("rate", media.AAC_HZ)
def test_every_rate_of_sound_that_is_offered_is_written(tmp_path, rate):
    sound = numbered.click(1.0, 0.5, rate)
    media.write_video(tmp_path / "v.mp4", [numbered.picture(0)] * 25, 25, sound, rate)
    assert media.audio_hz(tmp_path / "v.mp4") == rate
    back = media.read_audio(tmp_path / "v.mp4", rate)
    assert abs(int(np.abs(back).argmax()) / rate - 0.5) < 0.005


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"old")

    def frames():
        yield numbered.picture(0)
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        media.write_video(path, frames(), 25)
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    assert path.read_bytes() == b"old"


def test_windows_of_an_encoded_clip_are_exact():
    frames = [numbered.picture(k, 128) for k in range(60)]
    data = media.encode_frames(frames)
    assert data == media.encode_frames(frames)
    rng = np.random.default_rng(0)
    for _ in range(20):
        wanted = rng.integers(0, 60, 5).tolist()
        got = media.decode_frames(data, wanted)
        assert got.shape == (5, 128, 128, 3)
        assert [numbered.number(frame) for frame in got] == wanted
    with pytest.raises(media.MediaError) as caught:
        media.decode_frames(data[: len(data) // 2], [0])
    assert caught.value.reason == "corrupt"


def test_an_encoded_clip_keeps_its_colours():
    colours = np.random.default_rng(0).integers(40, 215, (20, 3))
    frames = [np.broadcast_to(colour, (64, 64, 3)).astype(np.uint8) for colour in colours]
    back = media.decode_frames(media.encode_frames(frames), range(20))
    assert np.abs(back.astype(float).mean(axis=(1, 2)) - colours).max() < 4

"""Odd videos, each made here: what is shown of them, when, and what is said."""

from __future__ import annotations

import itertools
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mytalk import media
from mytalk.media.pictures import as_displayed
from tests.helpers import numbered

CLICK_S = 1.2  # where picture 30 begins


def click(seconds: float = 2.0) -> np.ndarray:
    return numbered.click(seconds, CLICK_S)


def read(path: Path, **more) -> tuple[list[int], media.Notes]:
    """The numbers of the pictures, and what was noticed of pictures and sound."""
    notes = media.Notes()
    return [numbered.number(frame) for frame in media.read_frames(path, notes=notes, **more)], notes


def heard_s(path: Path) -> float:
    """When the click is heard."""
    return float(np.flatnonzero(np.abs(media.read_audio(path, notes=media.Notes())) > 0.3)[0]) / 16_000


# Containers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe", "frag_keyframe+empty_moov+delay_moov"])
def test_fragments_are_read_in_sync(tmp_path, flags):
    path = numbered.write(tmp_path / "v.mp4", numbered.regular(50), audio=click(), options={"movflags": flags})
    shown, notes = read(path)
    assert shown == list(range(50))
    assert heard_s(path) == pytest.approx(CLICK_S, abs=0.003)
    assert notes.cut is None


def _with_trailer(data: bytearray) -> bytearray:
    return data + b"\x00\x00\x00\x64junk" + bytes(28)


def _with_a_longer_mdat(data: bytearray) -> bytearray:
    at = data.index(b"mdat") - 4
    struct.pack_into(">I", data, at, len(data) - at + 5000)
    return data


@pytest.mark.parametrize("damage", [_with_trailer, _with_a_longer_mdat])
def test_wrong_sizes_of_boxes_lose_nothing(tmp_path, damage):
    path = numbered.write(tmp_path / "v.mp4", numbered.regular(50), audio=click(), options={"movflags": "faststart"})
    path.write_bytes(damage(bytearray(path.read_bytes())))
    shown, notes = read(path)
    assert shown == list(range(50))
    assert heard_s(path) == pytest.approx(CLICK_S, abs=0.003)
    assert notes.cut is None


@pytest.mark.parametrize(("codec", "reason"), [(b"V_MPEG4/ISO/AVC", "no_video"), (b"A_AAC", "no_audio")])
def test_a_stream_of_an_unknown_codec_is_none(tmp_path, codec, reason):
    path = numbered.write(tmp_path / "v.mkv", numbered.regular(10), audio=numbered.click(0.4, 0.2))
    assert codec in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(codec, codec[:2] + b"X" * (len(codec) - 2)))
    with pytest.raises(media.MediaError) as caught:
        next(media.read_frames(path)) if reason == "no_video" else media.read_audio(path)
    assert caught.value.reason == reason
    media.probe(path) if reason == "no_audio" else media.audio_hz(path)


@pytest.mark.parametrize("jump_s", [40_000, 60, -1000, 0])
def test_a_jump_of_the_stamps_keeps_pictures_and_sound_together(tmp_path, jump_s):
    """Two recordings of MPEG-TS joined as bytes: the second part's click is heard with its picture."""
    whole = bytearray()
    for start_s in (2000, 2000 + jump_s):
        part = tmp_path / "part.ts"
        numbered.write(part, numbered.regular(50, start_s=start_s), audio=click(), audio_start_s=start_s)
        whole += part.read_bytes()
    path = tmp_path / "v.ts"
    path.write_bytes(whole)
    shown, _ = read(path)
    assert len(shown) == pytest.approx(100, abs=2)
    audio_S = media.read_audio(path)
    assert len(audio_S) < 5 * 16_000
    loud = np.flatnonzero(np.abs(audio_S) > 0.3) / 16_000
    second = [index for index, number in enumerate(shown) if number == 30][-1]
    assert loud[0] == pytest.approx(CLICK_S, abs=0.01)
    assert loud[-1] == pytest.approx(second / 25, abs=0.01 + 0.002)


def test_recordings_joined_in_a_container_whose_stamps_do_not_jump_stay_together(tmp_path):
    """Two Matroska files joined as bytes: the second one's click is heard with its picture."""
    path = tmp_path / "v.mkv"
    part = numbered.write(tmp_path / "part.mkv", numbered.regular(50), audio=click())
    path.write_bytes(part.read_bytes() * 2)
    shown, _ = read(path)
    assert len(shown) == pytest.approx(100, abs=2)
    loud = np.flatnonzero(np.abs(media.read_audio(path)) > 0.3) / 16_000
    second = [index for index, number in enumerate(shown) if number == 30][-1]
    assert second > 75
    assert loud[0] == pytest.approx(CLICK_S, abs=0.01)
    assert loud[-1] == pytest.approx(second / 25, abs=0.03)


def test_damage_in_the_middle_costs_the_pictures_until_the_next_key_picture(tmp_path):
    path = numbered.write(tmp_path / "v.mkv", numbered.regular(60))
    with av.open(str(path)) as container:
        keys = [p for p in container.demux(video=0) if p.size and p.is_keyframe]
    at = keys[2].pos + 60  # a key picture comes every 10
    data = bytearray(path.read_bytes())
    data[at : at + keys[2].size // 2] = np.random.default_rng(0).bytes(keys[2].size // 2)
    path.write_bytes(data)
    shown, notes = read(path)
    assert len(shown) == 60
    (start, stop) = notes.still[0]
    whole = [index for index in range(60) if not start <= index < stop]
    assert [shown[index] for index in whole] == whole
    assert stop <= 31
    assert notes.cut is None


def test_a_picture_that_stands_is_held_and_named(tmp_path):
    times = [*numbered.regular(25), *(12 + t for t in numbered.regular(25))]
    path = numbered.write(tmp_path / "v.mp4", times, audio=np.full(48_000 * 13, 0.1, np.float32))
    shown, notes = read(path)
    assert shown == [*range(25), *[24] * (300 - 25), *range(25, 50)]
    assert notes.still == [(24, 300)]
    assert notes.cut is None
    assert read(path, stop=25)[1].still == [(24, 300)], "also where the reader stops in it"
    assert read(path, stop=24)[1].still == []


def test_stamps_that_leap_by_an_hour_break_the_file_off(tmp_path):
    times = [Fraction(0), Fraction(1, 25), *(3600 + t for t in numbered.regular(25))]
    shown, notes = read(numbered.write(tmp_path / "v.mp4", times, tick_s=Fraction(1, 1000)))
    assert set(shown) == {0, 1}
    assert len(shown) < 300
    assert notes.pictures_cut is not None
    assert notes.pictures_cut.reason == "timestamps"


# Names -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [b"12:30.mp4", b"-x.mp4", b"a b?c=d&e#f%20.mp4", "视频".encode("gbk") + b".mp4"])
def test_a_path_is_a_path(tmp_path, monkeypatch, name):
    made = numbered.write(tmp_path / "v.mp4", numbered.regular(10), audio=numbered.click(0.4, 0.2))
    monkeypatch.chdir(tmp_path)
    path = Path(os.fsdecode(name))
    made.rename(path)
    assert read(path)[0] == list(range(10))
    assert len(media.read_audio(path)) == pytest.approx(6400, abs=200)
    assert media.probe(path).width == numbered.SIDE_PX
    with pytest.raises(FileNotFoundError):
        media.probe(Path("13:30.mp4"))


# How it is shown -------------------------------------------------------------------------------------


CONCAT = "ffconcat version 1.0\nfile v.mp4\n"
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nv.mp4\n"


@pytest.mark.parametrize(
    ("name", "text"), [("list", CONCAT), (os.fsdecode("列".encode("gbk")), CONCAT), ("list.m3u8", HLS)]
)
def test_a_list_of_files_is_not_read_as_those_files(tmp_path, monkeypatch, name, text):
    numbered.write(tmp_path / "v.mp4", numbered.regular(25))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(media.MediaError, match="list of other files") as caught:
        next(media.read_frames(path))
    assert caught.value.reason == "unreadable"


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """A video whose track header has this display matrix."""
    numbered.write(path, numbered.regular(3))
    data = path.read_bytes()
    at = data.index(b"tkhd") + 4 + 40  # version, times, ids and volume come before the matrix
    numbers = [round(value * 65_536) for value in (a, b, 0, c, d, 0, 0, 0)]
    path.write_bytes(data[:at] + struct.pack(">8i", *numbers) + data[at + 32 :])
    return path


QUARTERS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]


@pytest.mark.parametrize("matrix", QUARTERS, ids=str)
def test_the_whole_display_matrix_is_applied(tmp_path, matrix):
    """By the standard's formula: pixel (x, y) is shown at (a x + c y, b x + d y), shifted into the picture."""
    a, b, c, d = matrix
    stored = next(media.read_frames(with_matrix(tmp_path / "v.mp4", 1, 0, 0, 1), start=2)).copy()
    stored[:20, :30] = 255  # no symmetry
    side = numbered.SIDE_PX
    expected = np.zeros_like(stored)
    for x, y in itertools.product(range(side), range(side)):
        shown_x, shown_y = a * x + c * y, b * x + d * y
        expected[shown_y if b + d > 0 else side - 1 + shown_y, shown_x if a + c > 0 else side - 1 + shown_x] = stored[
            y, x
        ]
    matrix_22 = None if matrix == (1, 0, 0, 1) else np.array([[a, b], [c, d]])
    assert np.array_equal(as_displayed(stored, matrix_22), expected)
    frame = list(media.read_frames(with_matrix(tmp_path / "v.mp4", *matrix)))[2]
    assert np.abs(frame.astype(int) - as_displayed(numbered.picture(2), matrix_22)).mean() < 6


@pytest.mark.parametrize("matrix", [(0.7071, 0.7071, -0.7071, 0.7071), (1, 0.3, 0, 1), (0, 0, 0, 0)], ids=str)
def test_other_matrices_are_refused_by_name_or_ignored(tmp_path, matrix):
    path = with_matrix(tmp_path / "v.mp4", *matrix)
    if not any(matrix):  # ffmpeg takes none for a matrix that is no matrix
        return
    with pytest.raises(media.MediaError) as caught:
        list(media.read_frames(path))
    assert caught.value.reason == "display_matrix"


def colours(path: Path, width: int, height: int, matrix: int, tagged: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Plain pictures stored by the colour matrix `matrix`: the colours that were stored, and those that are read."""
    stored = np.random.default_rng(0).integers(60, 200, (3, 3))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for name, value in tagged.items():
            setattr(stream.codec_context, name, value)
        for index, colour in enumerate(stored):
            rgb = av.VideoFrame.from_ndarray(np.broadcast_to(colour, (height, width, 3)).astype(np.uint8).copy())
            frame = rgb.reformat(format="yuv420p", dst_colorspace=matrix)
            for name in ("colorspace", "color_primaries", "color_trc"):
                setattr(frame, name, tagged.get(name, 2))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return stored, np.stack([frame.mean(axis=(0, 1)) for frame in media.read_frames(path)])


@pytest.mark.parametrize(
    ("size", "matrix", "tag"),
    [
        ((1280, 720), 1, {}),
        ((320, 240), 5, {}),
        ((320, 240), 1, {"colorspace": 1}),
        ((1280, 720), 5, {"colorspace": 6}),
    ],
    ids=["untagged HD is BT.709", "untagged SD is BT.601", "tagged 709", "tagged 601"],
)
def test_colours_are_those_of_the_tags_or_of_the_size(tmp_path, size, matrix, tag):
    stored, seen = colours(tmp_path / "v.mp4", *size, matrix, tag)
    assert np.abs(stored - seen).max() < 4


def test_hdr_is_said(tmp_path):
    colours(tmp_path / "v.mp4", 320, 240, 9, {"colorspace": 9, "color_primaries": 9, "color_trc": 18})
    assert read(tmp_path / "v.mp4")[1].lines == [
        "its pictures are HDR (HLG), read without tone mapping: they look dull"
    ]
    assert media.probe(tmp_path / "v.mp4").colour == media.Colour(9, 9, 18)


@pytest.mark.parametrize("colour", [media.Colour(1, 1, 1), media.Colour(9, 9, 18), media.Colour()], ids=str)
def test_tags_are_written_and_the_colours_return(tmp_path, colour):
    wanted = np.random.default_rng(1).integers(60, 200, (3, 3))
    frames = [np.broadcast_to(one, (64, 96, 3)).astype(np.uint8) for one in wanted]
    media.write_video(tmp_path / "v.mp4", frames, 25, colour=colour)
    assert media.probe(tmp_path / "v.mp4").colour == colour
    seen = np.stack([frame.mean(axis=(0, 1)) for frame in media.read_frames(tmp_path / "v.mp4")])
    assert np.abs(wanted - seen).max() < 4


def test_interlaced_pictures_are_deinterlaced(tmp_path):
    """A bar that moves between the two fields of a picture: no comb is left, and each picture keeps its time."""
    path = tmp_path / "v.ts"

    def bar(at: int) -> np.ndarray:
        out = np.full((64, 64, 3), 30, np.uint8)
        out[:, at : at + 12] = 220
        return out

    with av.open(str(path), "w") as container:
        options = {"flags": "+ildct+ilme", "x264-params": "tff=1", "crf": "10"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for k in range(13):
            woven = bar(4 * k)
            woven[1::2] = bar(4 * k + 2)[1::2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(woven, format="rgb24")))
        container.mux(stream.encode(None))
    notes = media.Notes()
    frames = np.stack(list(media.read_frames(path, notes=notes))).astype(float)
    assert len(frames) == 13
    assert notes.lines == ["interlaced pictures were deinterlaced"]
    comb = np.abs(frames[:, 1:-1] - (frames[:, :-2] + frames[:, 2:]) / 2).mean(axis=(1, 2, 3))
    assert comb.max() < 3
    weight = frames[:, :, :, 0].mean(axis=1) - 30
    place = (weight * np.arange(64)).sum(axis=1) / weight.sum(axis=1)
    assert np.abs(np.diff(place[1:-1]) - 4).max() < 0.1
    assert 4 * 3 + 5.5 - 0.1 < place[3] < 4 * 3 + 7.5 + 0.1  # one of the two fields


def test_pictures_of_another_size_in_the_stream_come_in_the_size_of_the_first(tmp_path):
    """Two recordings joined, the second smaller."""
    parts = bytearray()
    for start_s, side_px in ((10, 128), (11, 64)):
        part = numbered.write(tmp_path / "p.ts", numbered.regular(25, start_s=start_s), side_px=side_px)
        parts += part.read_bytes()
    path = tmp_path / "v.ts"
    path.write_bytes(parts)
    frames = list(media.read_frames(path, notes=media.Notes()))
    assert {frame.shape for frame in frames} == {(128, 128, 3)}
    assert len(frames) == pytest.approx(50, abs=2)

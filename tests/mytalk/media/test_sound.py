"""Odd sound files, each made here: what is heard of them, and what is said."""

from __future__ import annotations

import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mytalk import media
from tests.helpers import numbered, sounds
from tests.helpers.sounds import rms, tone


def read(path: Path, **more) -> tuple[np.ndarray, media.Notes]:
    notes = media.Notes()
    return media.read_audio(path, notes=notes, **more), notes


def same(heard_S: np.ndarray, said_S: np.ndarray) -> float:
    """Correlation over what both have."""
    count = min(len(heard_S), len(said_S))
    return float(np.corrcoef(heard_S[:count], said_S[:count])[0, 1])


# Channels --------------------------------------------------------------------------------------------


def speech(seconds: float = 2.0, hz: int = 16_000, seed: int = 0) -> np.ndarray:
    """Noise in syllables (S,)."""
    at_S = np.arange(round(seconds * hz)) / hz
    return np.random.default_rng(seed).normal(0, 0.1, len(at_S)) * (np.sin(2 * np.pi * 3 * at_S) > 0)


def test_alike_channels_are_averaged(tmp_path):
    left, right = speech(), 0.5 * speech() + 0.02 * speech(seed=1)
    path = sounds.write(tmp_path / "v.wav", np.stack([left, right]), 16_000, layout="stereo")
    np.testing.assert_allclose(read(path)[0], (left + right) / 2, atol=1e-4)


@pytest.mark.parametrize("right", [-1.0, -0.9, -0.3, 0.0], ids="right x {}".format)
def test_speech_survives_opposite_phase_and_one_channel(tmp_path, right):
    said_S = speech()
    path = sounds.write(tmp_path / "v.wav", np.stack([said_S, right * said_S]), 16_000, layout="stereo")
    heard_S, notes = read(path)
    np.testing.assert_allclose(heard_S, said_S, atol=1e-4)
    assert "the louder one is taken" in notes.lines[0]


def test_two_unlike_voices_are_both_heard(tmp_path):
    a_S, b_S = speech(), speech(seed=1)
    heard_S, notes = read(sounds.write(tmp_path / "v.wav", np.stack([a_S, b_S]), 16_000, layout="stereo"))
    np.testing.assert_allclose(heard_S, (a_S + b_S) / 2, atol=1e-4)
    assert not notes.lines


@pytest.mark.parametrize("codec", ["pcm_s16le", "libopus"])  # channels one sample after the other, and each by itself
@pytest.mark.parametrize("layout", ["5.1", "7.1"])
def test_speech_in_the_centre_keeps_its_loudness(tmp_path, layout, codec):
    said_S = speech()
    channels = 0.002 * np.stack([speech(seed=k) for k in range(1, 1 + int(float(layout) + 0.95))])
    channels[2] = said_S
    heard_S, _ = read(sounds.write(tmp_path / "v.mkv", channels, 16_000, codec, layout, codec_options={"b": "512k"}))
    assert rms(heard_S) == pytest.approx(rms(said_S), rel=0.05)
    assert same(heard_S, said_S) > 0.95


def test_the_default_track_is_heard_and_the_choice_said(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(2)]
        streams[0].disposition, streams[1].disposition = 0, av.stream.Disposition.default  # type: ignore
        for stream, loud in zip(streams, (0, 3000)):
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), loud, np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), 0
            container.mux(stream.encode(frame))
    heard_S, notes = read(path)
    assert rms(heard_S) == pytest.approx(3000 / 32_768, rel=1e-3)
    assert notes.lines == ["it has 2 sound tracks: number 2 is taken, as players do"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_samples_that_are_no_numbers_are_silenced_and_said(tmp_path, value, layout):
    said_S = speech()
    broken_S = said_S.copy()
    broken_S[1000:1050] = value
    channels = np.stack([broken_S] * (2 if layout == "stereo" else 1))
    heard_S, notes = read(sounds.write(tmp_path / "v.wav", channels, 16_000, "pcm_f32le", layout))
    expected_S = said_S.copy()
    expected_S[1000:1050] = 0
    np.testing.assert_allclose(heard_S, expected_S, atol=1e-4)
    assert "50 samples of its sound are no numbers" in notes.lines[0]


def test_a_rate_that_changes_in_the_stream_gets_a_new_resampler(tmp_path):
    first = sounds.write(tmp_path / "a.mp3", tone(1.0, 44_100)[None], 44_100, "libmp3lame", options={"write_xing": "0"})
    second = sounds.write(
        tmp_path / "b.mp3", tone(1.0, 48_000)[None], 48_000, "libmp3lame", options={"write_xing": "0"}
    )
    path = tmp_path / "v.mp3"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    heard_S, _ = read(path)
    assert len(heard_S) / 16_000 == pytest.approx(2.0, abs=0.15)
    for part_S in (heard_S[3200:12_800], heard_S[-12_800:-3200]):  # the same pitch in both
        pitch_hz = np.abs(np.fft.rfft(part_S)).argmax() * 16_000 / len(part_S)
        assert pitch_hz == pytest.approx(220, abs=2)


# What headers claim ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes", [(0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFFF), (0x7FFFFFFF, 0x7FFFFFDB), (0, 0)]
)
def test_a_placeholder_of_a_size_is_no_promise(tmp_path, sizes):
    path = sounds.write(tmp_path / "v.wav", speech()[None], 16_000)
    whole_S, data = read(path)[0], bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[4:8], data[at : at + 4] = struct.pack("<I", sizes[0]), struct.pack("<I", sizes[1])
    path.write_bytes(data)
    heard_S, notes = read(path)
    assert np.array_equal(heard_S, whole_S)
    assert notes.cut is None


@pytest.mark.parametrize("hz", [1, 3999, 1_000_000])
def test_a_rate_that_no_recording_has_is_refused(tmp_path, hz):
    """At 1 Hz the 2000 samples of a small file would be half an hour of sound."""
    path = sounds.write(tmp_path / "v.wav", speech(0.125)[None], 16_000)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", hz)
    path.write_bytes(data)
    with pytest.raises(media.MediaError) as caught:
        read(path)
    assert caught.value.reason == "unreadable"


def test_a_wav_that_was_cut_short_is_heard_and_it_is_said(tmp_path):
    path = sounds.write(tmp_path / "v.wav", speech()[None], 16_000)
    path.write_bytes(path.read_bytes()[:-30_001])
    heard_S, notes = read(path)
    assert len(heard_S) == pytest.approx(32_000 - 15_000, abs=2)
    assert notes.cut is not None
    assert notes.cut.reason == "truncated"
    with pytest.raises(media.MediaError):
        media.read_audio(path)


def test_wav_files_one_after_another_are_said(tmp_path):
    path = sounds.write(tmp_path / "v.wav", speech(1.0)[None], 16_000)
    one = path.read_bytes()
    path.write_bytes(one * 3)
    heard_S, notes = read(path)
    assert len(heard_S) == 16_000
    assert notes.lines == [f"another WAV begins in it at byte {len(one)} and is not heard; join them into one WAV"]


def test_an_estimated_length_is_no_promise(tmp_path):
    """Raw AAC states no length: ffmpeg guesses it from the first bit rate, which is low where it begins in silence."""
    said_S = np.concatenate([np.zeros(48_000), speech(3.0, 48_000)])
    path = sounds.write(tmp_path / "v.aac", said_S[None], codec="aac")
    with av.open(str(path)) as container:
        assert container.duration > 6e6
    heard_S, notes = read(path)
    assert len(heard_S) / 16_000 == pytest.approx(4.0, abs=0.05)
    assert notes.cut is None


def test_undecodable_packets_are_silence_in_their_place(tmp_path):
    path = sounds.write(tmp_path / "v.m4a", tone(3.0)[None], codec="aac")
    with av.open(str(path)) as container:
        places = [(p.pos, p.size) for p in container.demux(audio=0) if p.size]
    data = bytearray(path.read_bytes())
    for at, size in places[60:70]:
        data[at : at + size] = b"\xff" * size
    path.write_bytes(data)
    heard_S, notes = read(path)
    assert len(heard_S) == pytest.approx(48_000, abs=400)
    middle = round(65 * 1024 / 3)
    assert rms(heard_S[middle - 500 : middle + 500]) < 0.01
    assert rms(heard_S[-16_000:-1000]) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)
    assert "cannot be decoded" in notes.lines[0]


# Time and memory -------------------------------------------------------------------------------------


def far(path: Path, at_s: float) -> Path:
    """A second of tone at 0 and another at `at_s`, without pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for begin_s in (0, at_s):
            samples = (tone(1.0, 16_000) * 32_767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), round(begin_s * 16_000)
            container.mux(stream.encode(frame))
    return path


@pytest.mark.parametrize(("at_s", "seconds"), [(5, 6.0), (300, 301.0), (3600, 1.0), (100_000, 1.0)])
def test_a_leap_of_the_stamps_is_no_silence_of_hours(tmp_path, at_s, seconds):
    heard_S, notes = read(far(tmp_path / "v.mkv", at_s))
    assert len(heard_S) / 16_000 == pytest.approx(seconds, abs=0.1)
    assert (notes.cut is None) == (seconds > 1)
    assert notes.cut is None or notes.cut.reason == "timestamps"


def test_many_gaps_are_not_filled_without_end(tmp_path):
    """Each gap is below a jump, together they are hours: 64 kB must not become gigabytes."""
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        for k in range(2000):
            frame = av.AudioFrame.from_ndarray(np.ones((1, 16), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = 16_000, Fraction(1, 16_000), k * 9 * 16_000
            container.mux(stream.encode(frame))
    heard_S, notes = read(path)
    assert len(heard_S) / 16_000 < 700
    assert notes.sound_cut is not None
    assert notes.sound_cut.reason == "timestamps"


def test_sound_ends_soon_after_the_pictures_unless_all_is_wanted(tmp_path):
    path = numbered.write(tmp_path / "v.mp4", numbered.regular(25), audio=tone(8.0).astype(np.float32))
    assert len(read(path)[0]) / 16_000 == pytest.approx(2.0, abs=0.05)
    assert len(read(path, whole=True)[0]) / 16_000 == pytest.approx(8.0, abs=0.05)


def test_long_sound_takes_little_more_memory_than_its_array(tmp_path):
    path = sounds.write(tmp_path / "v.wav", np.tile(speech(), 150)[None], 16_000)
    tracemalloc.start()
    heard_S, _ = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(heard_S) == 300 * 16_000
    assert peak < 1.5 * heard_S.nbytes


# Channels that are kept ------------------------------------------------------------------------------


def layout_of(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.streams.audio[0].layout.name


@pytest.mark.parametrize(
    ("layout", "kept"),
    [("mono", "mono"), ("stereo", "stereo"), ("5.1", "5.1"), ("5.1(side)", "5.1"), ("7.1", "7.1"), ("quad", "mono")],
)
def test_channels_are_kept_in_their_order_and_can_be_written_again(tmp_path, layout, kept):
    count = len(av.AudioLayout(layout).channels)
    said_CS = np.stack([tone(1.0, pitch_hz=200 + 100 * k, loud=0.05 * (k + 1)) for k in range(count)])
    path = sounds.write(tmp_path / "v.wav", said_CS, 48_000, layout=layout)
    heard_CS, name = media.read_channels(path, 48_000, media.Notes())
    assert name == kept
    if kept == "mono":
        np.testing.assert_allclose(heard_CS[0], media.read_audio(path, 48_000), atol=1e-6)
    else:
        np.testing.assert_allclose(heard_CS, said_CS, atol=1e-3)
    again = tmp_path / "v.mp4"
    pictures = [np.zeros((64, 64, 3), np.uint8)] * 25
    media.write_video(again, pictures, 25, heard_CS, 48_000, layout=name)
    assert layout_of(again) == kept
    written_CS, _ = media.read_channels(again, 48_000, media.Notes())
    for channel, heard_S, written_S in zip(av.AudioLayout(name).channels, heard_CS, written_CS, strict=True):
        if channel.name != "LFE":  # the encoder keeps a subwoofer's lowest tones only
            assert same(written_S[2000:46_000], heard_S[2000:46_000]) > 0.97


def test_a_kept_channel_has_no_samples_that_are_no_numbers(tmp_path):
    said_CS = np.stack([tone(0.5), tone(0.5)]).astype(np.float32)
    said_CS[1, 100:200] = np.nan
    path = sounds.write(tmp_path / "v.mkv", said_CS, 48_000, layout="stereo", codec="pcm_f32le")
    heard_CS, _ = media.read_channels(path, 48_000, media.Notes())
    assert (heard_CS[1, 100:200] == 0).all()
    np.testing.assert_allclose(heard_CS[0], said_CS[0], atol=1e-3)

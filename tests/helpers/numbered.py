"""Synthetic videos for tests: every picture shows its number in bars, so that a reader can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

BITS, BAR_PX = 8, 8
AT_ONCE = 1024  # samples in a packet of sound
SIDE_PX = BITS * BAR_PX


def picture(number: int, side_px: int = SIDE_PX) -> np.ndarray:
    """(side, side, 3) uint8: bar b is bright where bit b of `number` is set."""
    out = np.full((side_px, side_px, 3), 30, np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            out[:, bit * side_px // BITS : (bit + 1) * side_px // BITS] = 220
    return out


def number(pixels: np.ndarray) -> int:
    """The inverse of `picture`, at any size."""
    grey = pixels.mean(axis=(0, 2)).reshape(BITS, -1).mean(axis=1)
    return sum(1 << bit for bit in range(BITS) if grey[bit] > 125)


def write(
    path: Path,
    times_s: Sequence[Fraction],
    tick_s: Fraction = Fraction(1, 90_000),
    rate: float | Fraction = 25,
    audio: np.ndarray | None = None,
    audio_start_s: float = 0.0,
    audio_hz: int = 48_000,
    audio_codec: str = "aac",
    options: dict[str, str] | None = None,
    side_px: int = SIDE_PX,
    first: int = 0,
    codec: str = "libx264",
) -> Path:
    """A video whose k-th picture shows k + first from `times_s[k]` on, with mono `audio` from `audio_start_s` on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(codec, rate=Fraction(rate), options={"crf": "12", "g": "10"})
        video.width = video.height = side_px
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = video.time_base = tick_s
        sound = None
        if audio is not None:
            sound = container.add_stream(audio_codec, rate=audio_hz, layout="mono")
        for index, time_s in enumerate(times_s):
            frame = av.VideoFrame.from_ndarray(picture(index + first, side_px), format="rgb24")
            frame.time_base, frame.pts = tick_s, round(time_s / tick_s)
            for packet in video.encode(frame):
                container.mux(packet)
        for packet in video.encode(None):
            container.mux(packet)
        if sound is not None:
            kind = sound.codec_context.format.name
            data = audio if kind.startswith("flt") else np.rint(audio * 32767).astype(np.int16)
            for begin in range(0, len(data), AT_ONCE):
                piece = data[None, begin : begin + AT_ONCE].astype(data.dtype)
                frame = av.AudioFrame.from_ndarray(piece, format=kind, layout="mono")
                frame.sample_rate, frame.time_base = audio_hz, Fraction(1, audio_hz)
                frame.pts = round(audio_start_s * audio_hz) + begin
                for packet in sound.encode(frame):
                    container.mux(packet)
            for packet in sound.encode(None):
                container.mux(packet)
    return path


def regular(count: int, rate: float | Fraction = 25, start_s: float | Fraction = 0) -> list[Fraction]:
    """Times of `count` pictures at a constant rate."""
    return [Fraction(start_s).limit_denominator(90_000) + k / Fraction(rate) for k in range(count)]


def click(seconds: float, at_s: float, rate: int = 48_000) -> np.ndarray:
    """Silence with 2 ms of tone at `at_s`."""
    out = np.zeros(round(seconds * rate), np.float32)
    begin, length = round(at_s * rate), round(0.002 * rate)
    out[begin : begin + length] = 0.9 * np.sin(2 * np.pi * 2000 * np.arange(length) / rate)
    return out

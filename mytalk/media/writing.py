"""Writing video and audio: the mp4 of a dubbed video, and the encoded clip of a shard.

Shape suffixes: H height, W width, 3 = RGB, C channels, S audio samples.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from mytalk import atomic
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ
from mytalk.media.colour import Colour
from mytalk.media.downmix import packed

# The frames column: a key picture every 5 frames, no B pictures. docs/log.md has figures ("shard format, measured"):
# about half the bytes of all-intra at a better PSNR, as fast for a window of 5 frames, 1.5 to 1.7 times as slow for
# scattered ones. One every 12 frames saves 30 % more bytes and decodes scattered frames 1.4 times as slow. JPEG q90
# decodes them nearly twice as fast and takes 5 times the bytes.
CLIP_CODEC = {"crf": "18", "preset": "veryfast", "tune": "fastdecode", "g": "5", "bf": "0", "sc_threshold": "0"}
X264 = "libx264"
DUB_CODEC = {"crf": "16", "preset": "medium"}
UNTAGGED = Colour()
CHANNEL_BITS = 96_000  # a second, of each channel of the sound
AAC_HZ = (8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)


def write_video(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    fps: float | Fraction,
    audio: np.ndarray | None = None,
    rate: int = SAMPLE_HZ,
    metadata: dict[str, str] | None = None,
    colour: Colour = UNTAGGED,
    layout: str = "mono",
) -> None:
    """Write RGB uint8 (H, W, 3) frames and audio, (S,) or (C, S) of a `layout`, as H.264 + AAC mp4, atomically.

    `rate` is one of AAC_HZ, `layout` one that `read_channels` gives. Colours are stored at half the resolution (4:2:0),
    which every player supports; where H or W is odd, which 4:2:0 cannot represent, at full resolution (4:4:4).
    `metadata` are tags of the container, of the names that mp4 knows: title, comment, copyright and the like;
    `read_tags` reads them. `colour` is what the frames were read with (`probe`): they are converted back and tagged
    the same way, so that they look the same.
    """
    with writer(path, fps, audio, rate, metadata, colour, layout) as add:
        for picture in frames:
            add(picture)


@contextlib.contextmanager
def writer(
    path: str | os.PathLike,
    fps: float | Fraction,
    audio: np.ndarray | None = None,
    rate: int = SAMPLE_HZ,
    metadata: dict[str, str] | None = None,
    colour: Colour = UNTAGGED,
    layout: str = "mono",
) -> Iterator[Callable[[np.ndarray], None]]:
    """`write_video` picture by picture, for several files that are written at a time: yields what adds the next one."""
    rate_fps = Fraction(fps).limit_denominator(1_000_000)
    with atomic.file(path) as handle, av.open(handle, "w", format="mp4") as container:
        container.metadata.update(metadata or {})
        video: Any = container.add_stream(X264, rate=rate_fps, options=dict(DUB_CODEC))
        video.codec_context.colorspace = colour.matrix  # otherwise players guess from the picture's size
        video.codec_context.color_primaries = colour.primaries
        video.codec_context.color_trc = colour.transfer
        to_yuv = VideoReformatter()
        sound: Any = None
        if audio is not None:
            sound = container.add_stream("aac", rate=rate, layout=layout)
            sound.bit_rate = max(128_000, CHANNEL_BITS * len(sound.layout.channels))
        samples_CS = np.atleast_2d(np.asarray([] if audio is None else audio, np.float32))
        sent, places = 0, itertools.count()

        def add(picture: np.ndarray) -> None:
            nonlocal sent
            index = next(places)
            _mux_picture(container, video, picture, index, (to_yuv, colour))
            if sound is not None:  # interleave, so that a player reads both as it goes
                upto = min(samples_CS.shape[1], int((index + 1) / rate_fps * rate))
                sent = _mux_audio(container, sound, samples_CS, sent, upto)

        yield add
        _mux(container, video.encode(None))
        if sound is not None:
            _mux_audio(container, sound, samples_CS, sent, samples_CS.shape[1])
            _mux(container, sound.encode(None))


def encode_frames(
    frames: Iterable[np.ndarray],
    fps: int = FRAME_HZ,
    codec: Mapping[str, str] = MappingProxyType(CLIP_CODEC),
    encoder: str = X264,
) -> bytes:
    """RGB uint8 (H, W, 3) frames (even H and W) as the bytes of an mp4; `codec` are options of the encoder.

    The index comes first, so that some frames can be read without the others (mytalk/media/mp4.py). One thread and
    no time of day: the same frames give the same bytes.
    """
    target = io.BytesIO()

    def again(*_) -> io.BytesIO:
        """The bytes written so far: to put the index first, the muxer opens its own output for reading."""
        return io.BytesIO(target.getvalue())

    with av.open(target, "w", format="mp4", options={"movflags": "faststart"}, io_open=again) as container:
        stream: Any = container.add_stream(encoder, rate=fps, options=dict(codec))
        stream.codec_context.thread_count = 1
        for index, picture in enumerate(frames):
            _mux_picture(container, stream, picture, index)
        _mux(container, stream.encode(None))
    return target.getvalue()


def _mux_picture(
    container, stream, picture: np.ndarray, index: int, conversion: tuple[VideoReformatter, Colour] | None = None
) -> None:
    if index == 0:
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "yuv444p" if stream.height % 2 or stream.width % 2 else "yuv420p"
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    if conversion is not None:
        to_yuv, colour = conversion
        frame = to_yuv.reformat(frame, format=stream.pix_fmt, dst_colorspace=colour.swscale, threads=1)
        frame.colorspace, frame.color_primaries, frame.color_trc = colour.matrix, colour.primaries, colour.transfer
    frame.pts = index
    frame.time_base = 1 / Fraction(stream.codec_context.framerate)
    _mux(container, stream.encode(frame))


def _mux_audio(container, stream, samples_CS: np.ndarray, sent: int, upto: int) -> int:
    if upto > sent:
        frame = packed(samples_CS[:, sent:upto], stream.layout.name, stream.rate)
        frame.pts = sent
        frame.time_base = Fraction(1, stream.rate)
        _mux(container, stream.encode(frame))
    return upto


def _mux(container, packets) -> None:
    for packet in packets:
        container.mux(packet)

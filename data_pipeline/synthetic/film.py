"""Frames and speech into an mp4 file: H.264 yuv420p and AAC, with the index at the end."""

from __future__ import annotations

import io
from collections.abc import Iterable
from fractions import Fraction

import av
import cv2
import numpy as np

PRESET = "veryfast"
QUALITY = 20  # constant rate factor of x264
KEYFRAME_S = 1
SOUND_BPS = 64_000


def mp4(
    frames: Iterable[np.ndarray],
    size: int,
    fps: int,
    samples_S: np.ndarray | None,
    sample_hz: int,
    crf: int = QUALITY,
    sound_bps: int = SOUND_BPS,
) -> bytes:
    """An mp4 of pictures (H, W, 3) uint8 blue green red at `fps` and mono int16 samples; None = no audio.

    One thread, so that as many files can be written at once as there are cores.
    """
    whole = io.BytesIO()
    with av.open(whole, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=Fraction(fps))
        video.width = video.height = size
        video.pix_fmt = "yuv420p"
        video.options = {"preset": PRESET, "crf": str(crf), "g": str(KEYFRAME_S * fps)}
        video.codec_context.thread_count = 1
        audio = None
        if samples_S is not None:
            audio = container.add_stream("aac", rate=sample_hz, layout="mono")
            audio.bit_rate = sound_bps
            spoken = av.AudioFrame.from_ndarray(samples_S[None], format="s16", layout="mono")
            spoken.sample_rate = sample_hz
            spoken.pts = 0
            container.mux(audio.encode(spoken))
            container.mux(audio.encode(None))
        for number, frame in enumerate(frames):
            planes = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420), np.uint8)
            picture = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            picture.pts = number
            picture.time_base = Fraction(1, fps)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    return whole.getvalue()

"""Files of the drawn corpus that are broken on purpose, so that extraction is seen to refuse them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipeline.synthetic import performance
from data_pipeline.synthetic.film import mp4
from data_pipeline.synthetic.paint.scene import background_only

WHY = {
    "truncated": "the second half of the file is missing, and with it the index",
    "no_audio": "there is no audio stream",
    "no_face": "there is speech and a wall, and nobody to be seen",
    "not_a_video": "it is text that is named .mp4",
}


def content(fault: str, seed: int, identity: int, seconds: float, size: int, fps: int) -> bytes:
    """The bytes of a file with this fault."""
    if fault == "not_a_video":
        return b"This is a text file, whatever its name says.\n"
    done = performance.perform(seed, identity, 0, seconds, fps)
    if fault == "no_face":
        wall = background_only((120.0, 140.0, 150.0), size)
        frames: Iterator[np.ndarray] = (wall for _ in done.times_T)
        return mp4(frames, size, fps, done.speech.samples_S, done.speech.sample_hz)
    whole = performance.film(seed, identity, done, size, audible=fault != "no_audio")
    return whole[: len(whole) // 2] if fault == "truncated" else whole

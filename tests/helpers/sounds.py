"""Sound files for tests: any channels, codec and container."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

AT_ONCE = 1152  # samples in a packet
KINDS = {"flt": (1, np.float32), "s16": (2**15 - 1, np.int16), "s32": (2**31 - 1, np.int32)}


def write(
    path: Path,
    samples_CS: np.ndarray,
    hz: int = 48_000,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """A sound file of float channels (C, S), in the layout's order."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=hz, layout=layout, options=codec_options or {})
        form = stream.codec_context.format
        full, kind = KINDS[form.name.rstrip("p")]
        for begin in range(0, samples_CS.shape[1], AT_ONCE):
            piece = (samples_CS[:, begin : begin + AT_ONCE] * full).astype(kind)
            if not form.is_planar:
                piece = piece.T.reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), format=form.name, layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = hz, Fraction(1, hz), begin
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def tone(seconds: float, hz: int = 48_000, pitch_hz: float = 220.0, loud: float = 0.3) -> np.ndarray:
    """A sine (S,)."""
    return loud * np.sin(2 * np.pi * pitch_hz * np.arange(round(seconds * hz)) / hz)


def rms(samples_S: np.ndarray) -> float:
    """Root mean square."""
    return float(np.sqrt(np.square(samples_S, dtype=np.float64).mean()))

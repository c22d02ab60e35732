"""Channels to one, so that speech survives: weighted by what each channel carries, and checked for cancelling.

Shape suffixes: C channels, S audio samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# In a film's surround sound people speak from the centre. Named channels that are not here count 1/4.
WEIGHTS = {"FC": 1.0, "FL": 0.5, "FR": 0.5, "FLC": 0.5, "FRC": 0.5, "LFE": 0.0, "LFE2": 0.0}
# Of the names of FFmpeg's sample formats.
KINDS: dict[str, type] = {
    "u8": np.uint8,
    "s16": np.int16,
    "s32": np.int32,
    "s64": np.int64,
    "flt": np.float32,
    "dbl": np.float64,
}
LEAST_SHARE = 0.3  # a mix with less of the loudest channel's energy has lost it: two equal voices keep 0.5


class Downmix:
    """Mixes frames to mono; notices which layouts lose their sound that way. `take`: a layout's channel to take."""

    def __init__(self, take: dict[str, int]):
        self.take = take
        self.not_numbers = 0
        self.mixed: dict[str, float] = {}  # by layout: the energy of the mix
        self.single: dict[str, np.ndarray] = {}  # and of each of its channels (C,)

    def mono(self, frame: Any) -> np.ndarray:
        """A frame's samples as float32 (S,)."""
        samples_CS = _samples(frame)
        finite = np.isfinite(samples_CS)
        if not finite.all():
            self.not_numbers += int((~finite).any(axis=0).sum())
            samples_CS = np.where(finite, samples_CS, np.float32(0))
        layout = frame.layout.name
        if len(samples_CS) == 1:
            return np.ascontiguousarray(samples_CS[0])
        if layout in self.take:
            return np.ascontiguousarray(samples_CS[self.take[layout]])
        mixed_S = _weights(frame.layout) @ samples_CS
        self.mixed[layout] = self.mixed.get(layout, 0.0) + float(np.square(mixed_S, dtype=np.float64).sum())
        energy_C = np.square(samples_CS, dtype=np.float64).sum(axis=1)
        self.single[layout] = self.single.get(layout, np.zeros(len(energy_C))) + energy_C
        return mixed_S

    def better(self) -> dict[str, int]:
        """The loudest channel of each layout whose mix has lost most of it: opposite phase, or all in one channel."""
        loudest = {layout: int(energy_C.argmax()) for layout, energy_C in self.single.items()}
        return {
            layout: channel
            for layout, channel in loudest.items()
            if self.mixed[layout] < LEAST_SHARE * self.single[layout][channel]
        }


def _weights(layout: Any) -> np.ndarray:
    names = [channel.name for channel in layout.channels]
    if not set(names) & {"FL", "FC"}:  # microphones in no known order
        return np.full(len(names), 1 / len(names), np.float32)
    return np.array([WEIGHTS.get(name, 0.25) for name in names], np.float32)


def _samples(frame: Any) -> np.ndarray:
    """Float32 (C, S), full scale 1."""
    kind, channels = KINDS[frame.format.name.rstrip("p")], frame.layout.nb_channels
    if frame.format.is_planar:  # not to_ndarray: of 8 channels and more it reads memory behind the last one
        samples: np.ndarray = np.stack([np.frombuffer(plane, kind, frame.samples) for plane in frame.planes[:channels]])
    else:
        samples = np.frombuffer(frame.planes[0], kind, frame.samples * channels).reshape(-1, channels).T
    if kind == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / -float(np.iinfo(kind).min)
    return samples.astype(np.float32)

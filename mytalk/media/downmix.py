"""Channels to one, so that speech survives: weighted by what each channel carries, and checked for cancelling.

Or kept as they are, to be written again.

Shape suffixes: C channels, S audio samples.
"""

from __future__ import annotations

from typing import Any

import av
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


# What an AAC file can hold, by the layout that a file has. Others are mixed to mono.
KEPT_AS = {"mono": "mono", "stereo": "stereo", "3.0": "3.0", "4.0": "4.0", "7.1": "7.1"}
KEPT_AS |= {"1 channels": "mono", "2 channels": "stereo"}  # of a file that does not name them
KEPT_AS |= {"5.0": "5.0", "5.0(side)": "5.0", "5.1": "5.1", "5.1(side)": "5.1"}


class Downmix:
    """Mixes frames to mono; notices which layouts lose their sound that way. `take`: a layout's channel to take."""

    layout, channels = "mono", 1

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

    def mixed_frame(self, frame: Any) -> Any:
        """A frame of one channel, as float32."""
        return packed(self.mono(frame)[None], self.layout, frame.sample_rate)

    def better(self) -> dict[str, int]:
        """The loudest channel of each layout whose mix has lost most of it: opposite phase, or all in one channel."""
        loudest = {layout: int(energy_C.argmax()) for layout, energy_C in self.single.items()}
        return {
            layout: channel
            for layout, channel in loudest.items()
            if self.mixed[layout] < LEAST_SHARE * self.single[layout][channel]
        }


class Kept(Downmix):
    """Keeps the channels of a file, those of its first frame; a frame of another layout is mixed and heard in all."""

    def __init__(self) -> None:
        super().__init__({})
        self.layout = ""

    def mixed_frame(self, frame: Any) -> Any:
        """The frame with all of its channels, as float32."""
        if not self.layout:
            self.layout = KEPT_AS.get(frame.layout.name, "mono")
            self.channels = len(av.AudioLayout(self.layout).channels)
        if KEPT_AS.get(frame.layout.name) != self.layout or self.layout == "mono":
            samples_CS = np.repeat(self.mono(frame)[None], self.channels, axis=0)
        else:
            samples_CS = np.nan_to_num(_samples(frame), nan=0.0, posinf=0.0, neginf=0.0)
        return packed(samples_CS, self.layout, frame.sample_rate)

    def better(self) -> dict[str, int]:
        """Nothing: what is kept cannot cancel."""
        return {}


def packed(samples_CS: np.ndarray, layout: str, hz: int) -> Any:
    """A frame of float32 samples (C, S), channels in turn: PyAV stumbles over eight planes."""
    flat = np.ascontiguousarray(samples_CS.T, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(flat, format="flt", layout=layout)
    frame.sample_rate = hz
    return frame


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

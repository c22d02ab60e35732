"""The frames around a painter's target, with their speech: what a sync loss needs of some of its slots.

Shape suffixes: B batch, K frames near targets, J windows, W frames of a window, L landmark_frames, N landmarks,
V vertices of the region's polygon, H height, W width, S audio samples, T frames of the clip, 3 = RGB or (x, y, z),
2 = (x, y).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from data_pipeline.sample.slot_random import Purpose
from data_pipeline.sample.windows import Windows
from data_pipeline.shards import reader
from data_pipeline.shards.layout import SYNC_OFFSET
from data_pipeline.shards.reader import ClipError, ReadRequest
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.networks.appearance import inputs
from mytalk.networks.appearance.config import AppearanceConfig

MARGIN = 1  # frames of speech on either side of a window: features of a frame reach so far


class Spoken(NamedTuple):
    """The frames of a window, of which the target is one, and their speech with MARGIN frames on either side."""

    frames: range
    audio_S: np.ndarray


class Near(NamedTuple):
    """The frames of one window but the target, as the painter sees them, and their places in the window."""

    places: list[int]
    pictures_K3HW: np.ndarray
    around_KLN2: np.ndarray
    regions_KV2: np.ndarray


class SpokenWindows:
    """Which slots show the frames around their target: a `share` of them, where the clip has speech there.

    A window is `frames` long, its target in the middle where the clip goes on so far. Which windows there are depends
    on what the manifest says of speech and of the A/V offset: `digest` is of that.
    """

    def __init__(self, windows: Windows, share: float, frames: int):
        self.windows, self.manifest, self.share, self.frames = windows, windows.manifest, share, frames
        offset = np.zeros(len(self.manifest))
        if self.manifest.has(SYNC_OFFSET):
            offset = self.manifest.column(SYNC_OFFSET).astype(np.float64)
        self.speaks, self.offset = self.manifest.with_speech(), offset

    @property
    def digest(self) -> str:
        """SHA-256 of what the manifest says of the selected clips' speech."""
        rows_n = self.windows.selection.rows_n
        return hashlib.sha256(self.speaks[rows_n].tobytes() + self.offset[rows_n].tobytes()).hexdigest()

    def window(self, slot: int, row: int, frame: int) -> range | None:
        """The frames of a slot's window; None where it has none."""
        if not self.speaks[row] or self.windows.random(slot, Purpose.SYNC_LOSS).random() >= self.share:
            return None
        first, last = reader.audible_frames(int(self.windows.frames[row]), self.offset[row])
        if not first <= frame < last or last - first < self.frames:
            return None
        start = min(max(frame - self.frames // 2, first), last - self.frames)
        return range(start, start + self.frames)

    def read(self, asked: Mapping[int, tuple[int, range]]) -> dict[int, Spoken | ClipError]:
        """The windows with their speech, of (row, window) by place; a ClipError where it is damaged. Raises OSError."""
        requests = []
        for row, window in asked.values():
            until = min(window.stop + MARGIN, int(self.windows.frames[row]))
            requests.append(ReadRequest(row, "audio", max(window.start - MARGIN, 0), until))
        read: dict[int, Spoken | ClipError] = {}
        heard = reader.read(self.manifest, requests)
        for (place, (_, window)), request, audio_S in zip(asked.items(), requests, heard):
            if isinstance(audio_S, ClipError):
                read[place] = audio_S
                continue
            padded_S = np.zeros((len(window) + 2 * MARGIN) * SAMPLES_PER_FRAME, np.float32)
            begin = (request.start - window.start + MARGIN) * SAMPLES_PER_FRAME
            padded_S[begin : begin + len(audio_S)] = np.asarray(audio_S, np.float32) / 32768
            read[place] = Spoken(window, padded_S)
        return read


def near(
    model: AppearanceConfig,
    window: range,
    target: int,
    regions_TV2: np.ndarray,
    landmarks_TN3: np.ndarray,
    pixels_KHW3: np.ndarray,
) -> Near:
    """The frames of a window but the target, of their clip's regions and landmarks, and their own pixels."""
    frame_K = np.array([frame for frame in window if frame != target])
    corner_K2 = inputs.corners(regions_TV2[frame_K], model)
    around_KLN3 = landmarks_TN3[inputs.around_frames(frame_K, len(landmarks_TN3), model)]
    return Near(
        (frame_K - window.start).tolist(),
        inputs.cut(pixels_KHW3, corner_K2, model),
        ((around_KLN3[..., :2] - corner_K2[:, None, None]) / model.step_px).astype(np.float32),
        ((regions_TV2[frame_K] - corner_K2[:, None]) / model.step_px).astype(np.float32),
    )


def joined(found: Sequence[tuple[int, Spoken, Near]], count: int) -> dict[str, Any]:
    """The fields of a batch of `count` examples, of (place in the batch, window, its near frames); none without any.

    `window_JW` holds the rows of each window's frames in the targets (B) followed by the near frames (K).
    """
    if not found:
        return {}
    window_JW = np.empty((len(found), len(found[0][1].frames)), np.int64)
    done = count
    for window_W, (place, _, beside) in zip(window_JW, found):
        window_W[:] = place
        window_W[beside.places] = np.arange(done, done + len(beside.places))
        done += len(beside.places)
    places = [place for place, _, beside in found for _ in beside.places]
    parts = {
        "near_K3HW": [beside.pictures_K3HW for *_, beside in found],
        "near_around_KLN2": [beside.around_KLN2 for *_, beside in found],
        "near_regions_KV2": [beside.regions_KV2 for *_, beside in found],
    }
    return {
        **{name: torch.from_numpy(np.concatenate(values)) for name, values in parts.items()},
        "near_of_K": torch.tensor(places),
        "window_JW": torch.from_numpy(window_JW),
        "speech_JS": torch.from_numpy(np.stack([spoken.audio_S for _, spoken, _ in found])),
    }

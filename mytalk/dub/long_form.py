"""Motion of any length and frame rate: windows of the motion model, blended and retimed in the head's frame.

Shape suffixes: T frames, N all 478 landmarks, K noised landmarks, U source frames,
S audio samples (16 kHz), 2 = (x, y) in the head's frame, 3 = (x, y, z) in the crop.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from mytalk import machine
from mytalk.control.promises import Promises
from mytalk.face import pose
from mytalk.face.landmarks import NOISED, SAMPLES_PER_FRAME
from mytalk.networks.motion import generation
from mytalk.networks.motion.generation import SourceStretch
from mytalk.networks.motion.network import WINDOW_FRAMES, MotionModel

BLOCK_FRAMES = 500
CONTEXT_SIGMAS = 3.0  # of the smoothing of the pose: so far beyond its ends a window reads head and speech
OVERLAP_FRAMES = 50  # longest cross-fade between two windows (our default; the paper does not say)


def overlap(window_frames: int) -> int:
    """Number of frames over which one window fades into the next."""
    return min(OVERLAP_FRAMES, window_frames // 4)


def windows(frames: int, window_frames: int = WINDOW_FRAMES) -> list[tuple[int, int]]:
    """[start, stop) of the windows of a clip, each full where the clip is long enough; the last may overlap more."""
    if frames <= window_frames:
        return [(0, frames)]
    last = frames - window_frames
    starts = [*range(0, last, window_frames - overlap(window_frames)), last]
    return [(start, start + window_frames) for start in starts]


def generate(
    model: MotionModel,
    landmarks_TN3: np.ndarray,
    source: SourceStretch,
    audio_S: np.ndarray,
    seed: int,
    steps: int,
    on_window: Callable[[], None] = lambda: None,
    amplitude: float = 1.0,
    promises: Promises | None = None,
    features_TD: np.ndarray | None = None,
) -> np.ndarray:
    """`generation.generate` for a clip of any length: (T, 478, 3) float32, crop px.

    A clip of one window gives the same as `generation.generate`. Windows are as long as the longest that the model was
    trained on. Where they overlap they start from the same noise, hear the same speech and see the same slow pose, both
    read beyond their ends, and a linear cross-fade joins them in the head's frame, where the head stands still.
    `promises` are those of the clip's frames, `features_TD` the values of the column that the model hears, if it hears
    one.
    """
    head = person_head(source.landmarks_UN3)
    joined_TK2, end = machine.zeros((len(landmarks_TN3), len(NOISED), 2), np.float64), 0
    context = math.ceil(CONTEXT_SIGMAS * model.config.slow_frames)
    for start, stop in windows(len(landmarks_TN3), model.window_frames):
        first, last = max(0, start - context), min(len(landmarks_TN3), stop + context)
        speech_S = audio_S[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
        hold = None if promises is None else promises.part(start, stop).hold
        heard_TD = None if features_TD is None else features_TD[first:last]
        window_TN3 = generation.generate(
            *(model, landmarks_TN3[first:last], source, speech_S, seed, steps),
            first_frame=start,
            amplitude=amplitude,
            hold=hold,
            features_TD=heard_TD,
            context=(start - first, last - stop),
        )
        join(joined_TK2, end, lower_face(window_TN3, head), start, overlap(model.window_frames))
        end = stop
        on_window()
    return with_lower_face(landmarks_TN3, joined_TK2, head)


def person_head(source_UN3: np.ndarray) -> pose.Head:
    """The head of the person that a stretch shows, in float64, as a batch of one."""
    points = _points(source_UN3)
    return pose.person_head(points, torch.ones(points.shape[:2], dtype=torch.float64))


def lower_face(landmarks_TN3: np.ndarray, head: pose.Head) -> np.ndarray:
    """The noised points in the head's frame, where they are motion alone: (T, K, 2) float64."""
    lower_TK2 = machine.zeros((len(landmarks_TN3), len(NOISED), 2), np.float64)
    for block in _blocks(len(landmarks_TN3)):
        points = _points(landmarks_TN3[block])
        posed = pose.fit(points, head.rigid_BR3)
        lower_TK2[block] = posed.to_head(points[:, :, NOISED], head.depth_BN[:, NOISED])[0].numpy()
    return lower_TK2


def with_lower_face(landmarks_TN3: np.ndarray, lower_TK2: np.ndarray, head: pose.Head) -> np.ndarray:
    """Landmarks with the noised points replaced, each frame in its own pose: (T, 478, 3) float32, crop px."""
    out = machine.zeros(landmarks_TN3.shape)
    for block in _blocks(len(landmarks_TN3)):
        out[block] = landmarks_TN3[block]
        posed = pose.fit(_points(landmarks_TN3[block]), head.rigid_BR3)
        placed = posed.to_crop(torch.from_numpy(lower_TK2[block])[None], head.depth_BN[:, NOISED])
        out[block][:, NOISED] = placed[0].numpy()
    return out


def join(joined_TK2: np.ndarray, end: int, window_LK2: np.ndarray, start: int, longest: int) -> None:
    """Fade the motion joined up to `end` over at most `longest` frames into the window that begins at `start`."""
    fade = min(end - start, longest)
    weight_F11 = (np.arange(1, fade + 1) / (fade + 1))[:, None, None]
    faded, shared_FK2 = np.s_[end - fade : end], window_LK2[end - fade - start : end - start]
    joined_TK2[faded] = (1 - weight_F11) * joined_TK2[faded] + weight_F11 * shared_FK2
    joined_TK2[end : start + len(window_LK2)] = window_LK2[end - start :]


def _blocks(frames: int) -> list[slice]:
    """Slices of BLOCK_FRAMES: what takes float64 of all landmarks goes by them."""
    return [slice(start, start + BLOCK_FRAMES) for start in range(0, frames, BLOCK_FRAMES)]


def _points(landmarks_TN3: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(landmarks_TN3, np.float64))[None]

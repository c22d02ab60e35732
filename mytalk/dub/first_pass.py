"""The first pass of dubbing: where a video shows a face, and what of the person the models are shown.

Shape suffixes: F source frames, T frames at 25 Hz, U source frames at 25 Hz, R references, N landmarks (478),
H height, W width, S audio samples (16 kHz), X anything, 2 = (x, y), 23 an affine matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk import media
from mytalk.command import UserError
from mytalk.face import crop
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.face.shots import runs, shot_starts
from mytalk.face.track import find_faces

if TYPE_CHECKING:
    from mytalk.face.detector import Detector

LEAST_FRAMES = 5  # a face seen for less passes through: it is over before a mouth has moved
GAP_FRAMES = 5  # the detector may miss a face for so long; without this the true mouth would flash up
SOURCE_FRAMES = 75  # of the stretch that shows the person's way of moving: as long as in training
REFERENCES = 25  # pictures of the mouth, as IP_LAP takes at inference


@dataclass(frozen=True)
class Span:
    """Frames [start, stop) of a video, all with the same face: its crop, and its landmarks in px of that crop."""

    start: int
    stop: int
    crop_23: np.ndarray
    landmarks_FN2: np.ndarray


@dataclass(frozen=True)
class Study:
    """What the first pass found in a video: its upright size in px, its frames at its own mean rate, its spans."""

    video: Path
    fps: Fraction
    width: int
    height: int
    frames: int
    spans: list[Span]


@dataclass(frozen=True)
class Source:
    """What is shown of a person: motion and speech of a stretch at 25 Hz, and references with their landmarks."""

    landmarks_UN2: np.ndarray
    audio_S: np.ndarray  # U * 640 samples
    frames_RHW3: np.ndarray  # uint8 crops, 256 px
    frame_landmarks_RN2: np.ndarray


def nothing() -> None:
    """What is called where nobody counts."""


def study(video: Path, detector: Detector, on_frame: Callable[[], None] = nothing) -> Study:
    """Find the face in every frame of a video, at the video's own mean rate; only landmarks stay in memory.

    `on_frame` is called after each frame. Raises UserError where no face stays for LEAST_FRAMES, MediaError for
    a file that cannot be used whole, OSError for the machine's errors.
    """
    fps = frame_rate(video)
    track = find_faces(media.read_frames(video, fps), detector, on_frame)
    if not track.found_T.any():
        raise UserError(f"no face in {video}; name a video in which a face is seen from the front")
    landmarks_FN2, found_F = bridged(track.landmarks_TN2, track.found_T)
    starts_F = shot_starts(landmarks_FN2, found_F)
    long = [(a, b) for a, b in runs(found_F, starts_F) if b - a >= LEAST_FRAMES]
    if not long:
        raise UserError(f"no face stays for {LEAST_FRAMES} frames in {video}; name a longer video")
    spans = [_span(landmarks_FN2, *run) for run in long]
    return Study(Path(video), fps, track.width, track.height, len(found_F), spans)


def frame_rate(video: Path) -> Fraction:
    """A video's mean frames per second. Raises MediaError and OSError.

    What its header says; measured where that cannot be (browsers' recordings name their timebase, or nothing).
    """
    stated = media.probe(video).fps
    fps = stated if 0 < stated <= media.MOST_HZ else media.measured_hz(video)
    return Fraction(fps).limit_denominator(1_000_000)


def bridged(landmarks_FN2: np.ndarray, found_F: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Short gaps of the detector filled linearly, where the face before is the face after; and what is found then."""
    landmarks_FN2, found_F = landmarks_FN2.copy(), found_F.copy()
    for start, stop in runs(~found_F, np.zeros(len(found_F), bool)):
        if start == 0 or stop == len(found_F) or stop - start > GAP_FRAMES:
            continue
        ends_2N2 = landmarks_FN2[[start - 1, stop]]
        if not shot_starts(ends_2N2, np.ones(2, bool))[1]:
            landmarks_FN2[start:stop] = at(ends_2N2, np.arange(1, stop - start + 1) / (stop - start + 1))
            found_F[start:stop] = True
    return landmarks_FN2, found_F


def source_of(found: Study, audio_S: np.ndarray) -> Source:
    """What a video shows of its person, from its longest span: the loudest 3 s, or all where it is shorter.

    `audio_S` is the video's own sound (zeros where it has none). The references are spread evenly over the
    stretch. Raises MediaError and OSError, for the references are read from the file.
    """
    span = max(found.spans, key=lambda one: one.stop - one.start)
    landmarks_TN2 = at_25_hz(span, found.fps)
    speech_S = speech_of(span, found.fps, audio_S)
    frames = min(len(landmarks_TN2), SOURCE_FRAMES)
    begin = _loudest(speech_S, frames)
    at_25 = begin + np.linspace(0, frames - 1, min(frames, REFERENCES)).round()
    last = len(span.landmarks_FN2) - 1
    picked = sorted({min(round(k * float(found.fps) / FRAME_HZ), last) for k in at_25})
    return Source(
        landmarks_UN2=landmarks_TN2[begin : begin + frames],
        audio_S=speech_S[begin * SAMPLES_PER_FRAME : (begin + frames) * SAMPLES_PER_FRAME],
        frames_RHW3=_crops(found, span, picked),
        frame_landmarks_RN2=span.landmarks_FN2[picked],
    )


# Time ------------------------------------------------------------------------------------------------


def at(values_FX: np.ndarray, places_T: np.ndarray) -> np.ndarray:
    """Values between frames, linear, held beyond the ends; a whole place gives that frame exactly. (T, X)"""
    places_T = np.clip(places_T, 0, len(values_FX) - 1)
    below_T = places_T.astype(int)
    above_T = np.minimum(below_T + 1, len(values_FX) - 1)
    weight = (places_T - below_T).astype(values_FX.dtype).reshape(-1, *[1] * (values_FX.ndim - 1))
    return values_FX[below_T] * (1 - weight) + values_FX[above_T] * weight


def at_25_hz(span: Span, fps: Fraction) -> np.ndarray:
    """A span's landmarks at 25 Hz from its first frame to its last or just past it: (T, 478, 2)."""
    return at(span.landmarks_FN2, np.arange(frames_at_25_hz(span, fps)) * float(fps / FRAME_HZ))


def frames_at_25_hz(span: Span, fps: Fraction) -> int:
    """How many frames at 25 Hz reach from a span's first frame to its last or just past it: T."""
    return -((span.start + 1 - span.stop) * FRAME_HZ // fps) + 1


def at_source_rate(values_TX: np.ndarray, frames: int, fps: Fraction) -> np.ndarray:
    """Values at 25 Hz at the times of a span's frames: (F, X)."""
    return at(values_TX, np.arange(frames) * float(FRAME_HZ / fps))


def speech_of(span: Span, fps: Fraction, audio_S: np.ndarray) -> np.ndarray:
    """The T * 640 samples that belong to a span's landmarks at 25 Hz; silence past the end of the sound."""
    begin = round(span.start / fps * SAMPLE_HZ)
    count = frames_at_25_hz(span, fps) * SAMPLES_PER_FRAME
    return fitted(audio_S[begin : begin + count], count)


def fitted(audio_S: np.ndarray, samples: int) -> np.ndarray:
    """Sound cut or padded with silence to a length."""
    return np.pad(audio_S[:samples], (0, max(samples - len(audio_S), 0)))


def _loudest(audio_S: np.ndarray, frames: int) -> int:
    """Where the `frames` frames with the most sound begin, in frames at 25 Hz."""
    energy_T = np.square(audio_S, dtype=np.float64).reshape(-1, SAMPLES_PER_FRAME).sum(axis=1)
    sums = np.concatenate([[0.0], energy_T.cumsum()])
    return int(np.argmax(sums[frames:] - sums[:-frames]))


# Parts -----------------------------------------------------------------------------------------------


def _span(landmarks_FN2: np.ndarray, start: int, stop: int) -> Span:
    crop_23 = crop.canonical(landmarks_FN2[start:stop])
    return Span(start, stop, crop_23, crop.apply(landmarks_FN2[start:stop], crop_23))


def _crops(found: Study, span: Span, picked: list[int]) -> np.ndarray:
    """Crops of the frames `picked`, counted from the span's start: (R, 256, 256, 3)."""
    first, stop = span.start + picked[0], span.start + picked[-1] + 1
    frames = enumerate(media.read_frames(found.video, found.fps, first, stop), picked[0])
    wanted = set(picked)
    return np.stack([crop.warp(frame, span.crop_23) for index, frame in frames if index in wanted])

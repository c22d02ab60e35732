"""The first pass of dubbing: the frames of a video that show a person's face, in spans of one shot.

Shape suffixes: F frames at the video's rate, N landmarks (478), 3 = (x, y, z), 23 an affine matrix.
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
from mytalk.dub.faces import Face
from mytalk.dub.retiming import interpolate
from mytalk.dub.tracks import Followed, follow, laid_out
from mytalk.face import crop
from mytalk.face.shots import runs, shot_starts
from mytalk.face.smooth import smooth
from mytalk.face.track import find_faces

if TYPE_CHECKING:
    from mytalk.face.detector import Detector

LEAST_FRAMES = 5  # shorter spans are not dubbed: they end before a mouth has moved
FAR_ABOVE = 2.5  # the usual rate is taken where it is so many times the mean; two fields may have a time stamp each
GAP_FRAMES = 5  # longest gap of the detector that is filled; unfilled, the true mouth would flash up


@dataclass(frozen=True)
class FaceSpan:
    """Frames [start, stop) of a video, all with the same face: the crop of each, and its landmarks in px of that crop.

    The crops are one and the same as long as the face stays in it, else they follow it.
    """

    start: int
    stop: int
    crops_F23: np.ndarray
    landmarks_FN3: np.ndarray


@dataclass(frozen=True)
class FirstPass:
    """A video's upright size in px, its number of frames at its own rate, and its spans with one person's face."""

    video: Path
    fps: Fraction
    width: int
    height: int
    frames: int
    spans: list[FaceSpan]


def follow_faces(
    video: Path,
    detector: Detector,
    on_frame: Callable[[], None] = lambda: None,
    notes: media.Notes | None = None,
) -> tuple[Followed, Fraction]:
    """The tracks of every face of a video, at its own rate, which comes second; only landmarks stay in memory.

    `on_frame` is called after each frame. With `notes`, a file that breaks off is taken as far as it decodes. Raises
    UserError where there is no face, MediaError as `media.read_frames`, OSError for the machine's errors.
    """
    fps = frame_rate(video)
    followed = follow(media.read_frames(video, fps, notes=notes), detector, on_frame)
    if not followed.tracks:
        raise no_face(video)
    return followed, fps


def of_face(video: Path, fps: Fraction, followed: Followed, face: Face) -> FirstPass:
    """The spans in which a face is seen. Raises UserError where none is long enough."""
    landmarks_FN3, found_F = laid_out(face.tracks, followed.frames)
    cut_F = np.zeros(followed.frames, bool)
    cut_F[followed.cuts] = True
    spans = _spans(video, landmarks_FN3, found_F, cut_F, fps)
    return FirstPass(Path(video), fps, followed.width, followed.height, followed.frames, spans)


def find_face_spans(video: Path, detector: Detector) -> FirstPass:
    """The spans of the main face of a video of one person in one shot, as a clip of a shard is.

    Raises as `follow_faces` does, and UserError where no face stays for LEAST_FRAMES.
    """
    fps = frame_rate(video)
    track = find_faces(media.read_frames(video, fps), detector)
    if not track.found_T.any():
        raise no_face(video)
    spans = _spans(video, track.landmarks_TN3, track.found_T, np.zeros(len(track.found_T), bool), fps)
    return FirstPass(Path(video), fps, track.width, track.height, len(track.found_T), spans)


def no_face(video: Path) -> UserError:
    """The error for a video without a face."""
    return UserError(f"no face in {video}; name a video in which a face is seen from the front")


def frame_rate(video: Path) -> Fraction:
    """A video's mean frames per second; the usual ones where pictures stand for long. Raises MediaError and OSError.

    As its header states it; measured where the header cannot be right (recordings of browsers state their timebase,
    or nothing). Where one picture stands for most of the time the mouth could not follow the speech at the mean.
    """
    stated = media.probe(video).fps
    fps = stated if 0 < stated <= media.MOST_HZ else media.measured_hz(video)
    if FAR_ABOVE * fps < (usual := media.usual_hz(video)) <= media.MOST_HZ:
        fps = usual
    return Fraction(fps).limit_denominator(1_000_000)


def fill_gaps(landmarks_FN3: np.ndarray, found_F: np.ndarray, cut_F: np.ndarray) -> None:
    """Fill short gaps of the detector linearly, in place, where the same face stands on both sides.

    `cut_F` is True where a shot begins: nothing is filled across it.
    """
    for start, stop in runs(~found_F, np.zeros(len(found_F), bool)):
        if start == 0 or stop == len(found_F) or stop - start > GAP_FRAMES or cut_F[start : stop + 1].any():
            continue
        ends_2N3 = landmarks_FN3[[start - 1, stop]]
        if not shot_starts(ends_2N3, np.ones(2, bool))[1]:
            positions = np.arange(1, stop - start + 1) / (stop - start + 1)
            landmarks_FN3[start:stop] = interpolate(ends_2N3, positions)
            found_F[start:stop] = True


def _spans(
    video: Path, landmarks_FN3: np.ndarray, found_F: np.ndarray, cut_F: np.ndarray, fps: Fraction
) -> list[FaceSpan]:
    """The spans of a face that is found in some frames, whose gaps are filled in place.

    Raises UserError where none has LEAST_FRAMES.
    """
    fill_gaps(landmarks_FN3, found_F, cut_F)
    starts_F = shot_starts(landmarks_FN3, found_F) | cut_F
    long_runs = [(start, stop) for start, stop in runs(found_F, starts_F) if stop - start >= LEAST_FRAMES]
    if not long_runs:
        raise UserError(f"no face stays for {LEAST_FRAMES} frames in {video}; name a longer video")
    return [_span(landmarks_FN3, *run, fps) for run in long_runs]


def _span(landmarks_FN3: np.ndarray, start: int, stop: int, fps: Fraction) -> FaceSpan:
    smoothed_FN3 = smooth(landmarks_FN3[start:stop], float(fps))
    crops_F23 = crop.path(smoothed_FN3, float(fps))
    for frame, crop_23 in enumerate(crops_F23):  # in place: an hour of landmarks are half a GB
        smoothed_FN3[frame] = crop.apply(smoothed_FN3[frame], crop_23)
    return FaceSpan(start, stop, crops_F23, smoothed_FN3)

"""One source, from video file to clips: a first pass finds the face, a second writes the crops.

Two passes, because a clip's crop depends on all of its frames, and the frames of ten seconds would not fit
beside each other in the memory of many workers.
Shape suffixes: T frames, N landmarks, 2 = (x, y), S audio samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_pipeline.extract import spans
from data_pipeline.extract.sources import Source, key_of
from data_pipeline.shards import members
from data_pipeline.shards.writer import Clip
from mytalk import media
from mytalk.digest import sha256_of
from mytalk.face import crop
from mytalk.face.detector import Detector
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.face.track import FaceTrack, find_faces

NO_FACE = "no_face"
NO_SOUND = "audio_ends_early"
BLUR_EVERY_FRAMES = 5
NOSE_DEPTH = 1.1  # nose tip's distance from the head's turning axis, in half widths of the face
EYE_LEFT, EYE_RIGHT, NOSE_TIP, SIDE_LEFT, SIDE_RIGHT = 33, 263, 1, 234, 454


@dataclass(frozen=True)
class Limits:
    """What a span must hold to be kept."""

    min_seconds: float = 1.0
    max_seconds: float = 10.0
    min_face_px: float = 48.0


@dataclass(frozen=True)
class Survey:
    """What the first pass found in a source: landmarks in source px (0 where no face was found), sound.

    Frames outside the source's time ranges count as frames without a face; `detected_share` is of those inside.
    """

    landmarks_TN2: np.ndarray
    found_T: np.ndarray
    detected_share: float
    audio_S: np.ndarray
    fps: float
    width: int
    height: int
    sha256: str


def survey(path: Path, ranges_s: Sequence[Sequence[float]], detector: Detector, tick: Callable[[int], None]) -> Survey:
    """First pass: every frame of the time ranges (none: of the file) through the detector; `tick(n)` counts frames.

    Raises MediaError for a file that cannot be used whole, OSError for the machine's errors.
    """
    header = media.probe(path)
    audio_S = media.read_audio(path, SAMPLE_HZ)  # before the frames: a file without sound is cheap to refuse
    ranges = [(round(start_s * FRAME_HZ), round(stop_s * FRAME_HZ)) for start_s, stop_s in ranges_s]
    track, inside_T = _find_faces(path, ranges, detector, tick)
    share = float(track.found_T[inside_T].mean()) if inside_T.any() else 0.0
    return Survey(
        track.landmarks_TN2, track.found_T, share, audio_S, header.fps, track.width, track.height, sha256_of(path)
    )


def _find_faces(
    path: Path, ranges: Sequence[tuple[int, int]], detector: Detector, tick: Callable[[int], None]
) -> tuple[FaceTrack, np.ndarray]:
    """The face in every frame up to the last range's end, and which frames lie inside a range (T,)."""
    if not ranges:
        track = find_faces(media.read_frames(path, FRAME_HZ), detector, lambda: tick(1))
        return track, np.ones(len(track.found_T), bool)
    frames = media.read_frames(path, FRAME_HZ, stop=ranges[-1][1])
    points, found, inside, at, width, height = [], [], [], 0, 0, 0
    for start, stop in ranges:
        skipped = sum(1 for _ in itertools.islice(frames, start - at))
        track = find_faces(itertools.islice(frames, stop - start), detector, lambda: tick(1))
        count, at = len(track.found_T), stop
        points += [np.zeros((skipped, *track.landmarks_TN2.shape[1:]), np.float32), track.landmarks_TN2]
        found += [np.zeros(skipped, bool), track.found_T]
        inside += [np.zeros(skipped, bool), np.ones(count, bool)]
        if count:
            width, height = track.width, track.height
    return FaceTrack(np.concatenate(points), np.concatenate(found), width, height), np.concatenate(inside)


def spans_of(found: Survey, limits: Limits) -> list[spans.Span]:
    """The spans of a surveyed source, kept and rejected."""
    return spans.judge(
        found.landmarks_TN2,
        found.found_T,
        found.audio_S,
        SAMPLES_PER_FRAME,
        round(limits.min_seconds * FRAME_HZ),
        round(limits.max_seconds * FRAME_HZ),
        limits.min_face_px,
    )


def why_nothing(found: Survey, judged_spans: list[spans.Span]) -> str:
    """The reason of a source without a kept span: that of its longest."""
    if not found.found_T.any():
        return NO_FACE
    if not judged_spans:
        return NO_SOUND
    return max(judged_spans, key=lambda span: span.stop - span.start).state


def clips(path: Path, source: Source, corpus: str, found: Survey, kept: list[spans.Span]) -> Iterator[Clip]:
    """Second pass: the clips of the kept spans, in order."""
    frames = media.read_frames(path, FRAME_HZ, stop=kept[-1].stop)
    index = 0
    for span in kept:
        landmarks_TN2 = found.landmarks_TN2[span.start : span.stop]
        crop_23 = crop.canonical(landmarks_TN2, CROP_PX)
        pictures = []
        while index < span.stop:
            frame = next(frames)
            if index >= span.start:
                pictures.append(crop.warp(frame, crop_23, CROP_PX))
            index += 1
        facts = {
            "corpus": corpus,
            "source": source.path,
            "identity": source.identity,
            "start_frame": span.start,
            "stop_frame": span.stop,
            "source_fps": round(found.fps, 4),
            "source_width": found.width,
            "source_height": found.height,
            "source_sha256": found.sha256,
            "crop": crop_23.reshape(-1).tolist(),
            "crop_px": CROP_PX,
            "detected_share": round(found.detected_share, 4),
            **_pose(landmarks_TN2),
            "blur": _blur(pictures),
            **source.facts,
        }
        count = span.stop - span.start
        audio_S = found.audio_S[span.start * SAMPLES_PER_FRAME : span.stop * SAMPLES_PER_FRAME]
        audio_S = np.pad(audio_S, (0, count * SAMPLES_PER_FRAME - len(audio_S)))
        yield Clip(
            key_of(corpus, source.path, span.start),
            count,
            facts,
            members.landmarks_npy(crop.apply(landmarks_TN2, crop_23)),
            members.audio_wav(audio_S),
            media.encode_frames(pictures),
        )


def _pose(landmarks_TN2: np.ndarray) -> dict[str, float]:
    """Medians over the clip: face side in source px, yaw and roll in degrees (estimates from the plane).

    Roll is the slope of the line of the eyes. Yaw is read off the nose tip's place between the sides of
    the face, positive towards the image's right: sin(yaw) = offset / (half width * NOSE_DEPTH).
    """
    _, side_T = spans.face_boxes(landmarks_TN2)
    eyes_T2 = landmarks_TN2[:, EYE_RIGHT] - landmarks_TN2[:, EYE_LEFT]
    along_T2 = eyes_T2 / np.maximum(np.linalg.norm(eyes_T2, axis=1, keepdims=True), 1e-6)
    middle_T2 = (landmarks_TN2[:, SIDE_LEFT] + landmarks_TN2[:, SIDE_RIGHT]) / 2
    across_T2 = landmarks_TN2[:, SIDE_RIGHT] - landmarks_TN2[:, SIDE_LEFT]
    half_T = np.maximum((across_T2 * along_T2).sum(axis=1) / 2, 1e-6)
    offset_T = ((landmarks_TN2[:, NOSE_TIP] - middle_T2) * along_T2).sum(axis=1)
    yaw_T = np.degrees(np.arcsin(np.clip(offset_T / (half_T * NOSE_DEPTH), -1, 1)))
    roll_T = np.degrees(np.arctan2(along_T2[:, 1], along_T2[:, 0]))
    return {
        "face_px": round(float(np.median(side_T)), 2),
        "yaw_deg": round(float(np.median(yaw_T)), 2),
        "roll_deg": round(float(np.median(roll_T)), 2),
    }


def _blur(pictures: list[np.ndarray]) -> float:
    """Sharpness of the crops: median variance of the Laplacian of grey; low is blurred."""
    import cv2

    values = []
    for picture in pictures[::BLUR_EVERY_FRAMES]:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        values.append(float(cv2.Laplacian(grey, cv2.CV_64F).var()))
    return round(float(np.median(values)), 2)

"""One source, from video file to clips: a first pass finds the face, a second writes the crops.

Two passes, because a clip's crop depends on all of its frames, and the frames of ten seconds would not fit
beside each other in the memory of many workers.
Shape suffixes: T frames, N landmarks, 3 = (x, y, z), S audio samples.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_pipeline.extract import spans
from data_pipeline.extract.sources import Source, key_of
from data_pipeline.shards import facts, members
from data_pipeline.shards.facts import ClipData
from data_pipeline.shards.writer import Clip
from mytalk import media
from mytalk.digest import sha256_of
from mytalk.face import crop
from mytalk.face.detector import Detector
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLE_HZ, SAMPLES_PER_FRAME
from mytalk.face.smooth import smooth
from mytalk.face.track import FaceTrack, find_faces

NO_FACE = "no_face"
NO_SOUND = "audio_ends_early"
STILL = "still_picture"


@dataclass(frozen=True)
class Limits:
    """What a span must hold to be kept."""

    min_seconds: float = 1.0
    max_seconds: float = 10.0
    min_face_px: float = 48.0


@dataclass(frozen=True)
class Survey:
    """What the first pass found in a source: landmarks in source px (0 where no face was found), sound (None: none).

    Frames outside the source's time ranges count as frames without a face; `detected_share` is of those inside. Frames
    that only repeat a picture (`notes.still`) are in no span.
    """

    landmarks_TN3: np.ndarray
    found_T: np.ndarray
    detected_share: float
    audio_S: np.ndarray | None
    fps: float
    width: int
    height: int
    sha256: str
    notes: media.Notes


def survey(path: Path, ranges_s: Sequence[Sequence[float]], detector: Detector, tick: Callable[[int], None]) -> Survey:
    """First pass: every frame of the time ranges (none: of the file) through the detector; `tick(n)` counts frames.

    A file that breaks off is surveyed as far as it decodes. Raises MediaError where nothing does, OSError for the
    machine's errors.
    """
    header, notes = media.probe(path), media.Notes()
    audio_S = _read_audio(path, notes)
    ranges = [(round(start_s * FRAME_HZ), round(stop_s * FRAME_HZ)) for start_s, stop_s in ranges_s]
    track, inside_T = _find_faces(path, ranges, detector, tick, notes)
    share = float(track.found_T[inside_T].mean()) if inside_T.any() else 0.0
    return Survey(
        track.landmarks_TN3,
        track.found_T,
        share,
        audio_S,
        header.fps,
        track.width,
        track.height,
        sha256_of(path),
        notes,
    )


def _read_audio(path: Path, notes: media.Notes) -> np.ndarray | None:
    """The sound of a source; None where it has no audio track."""
    try:
        return media.read_audio(path, SAMPLE_HZ, notes)
    except media.MediaError as error:
        if error.reason != "no_audio":
            raise
        return None


def _find_faces(
    path: Path,
    ranges: Sequence[tuple[int, int]],
    detector: Detector,
    tick: Callable[[int], None],
    notes: media.Notes,
) -> tuple[FaceTrack, np.ndarray]:
    """The face in every frame up to the last range's end, and which frames lie inside a range (T,)."""
    if not ranges:
        track = find_faces(media.read_frames(path, FRAME_HZ, notes=notes), detector, lambda: tick(1))
        return track, np.ones(len(track.found_T), bool)
    frames = _alive(media.read_frames(path, FRAME_HZ, stop=ranges[-1][1], notes=notes), tick)
    points, found, inside, at, width, height = [], [], [], 0, 0, 0
    for start, stop in ranges:
        skipped = sum(1 for _ in itertools.islice(frames, start - at))
        track = find_faces(itertools.islice(frames, stop - start), detector, lambda: tick(1))
        count, at = len(track.found_T), stop
        points += [np.zeros((skipped, *track.landmarks_TN3.shape[1:]), np.float32), track.landmarks_TN3]
        found += [np.zeros(skipped, bool), track.found_T]
        inside += [np.zeros(skipped, bool), np.ones(count, bool)]
        if count:
            width, height = track.width, track.height
    return FaceTrack(np.concatenate(points), np.concatenate(found), width, height), np.concatenate(inside)


def _alive(frames: Iterator[np.ndarray], tick: Callable[[int], None]) -> Iterator[np.ndarray]:
    """The frames; says at each that work goes on, without counting it."""
    for frame in frames:
        tick(0)
        yield frame


def spans_of(surveyed: Survey, limits: Limits) -> list[spans.Span]:
    """The spans of a surveyed source, kept and rejected."""
    sounding_T = np.ones(len(surveyed.found_T), bool)
    if surveyed.audio_S is not None:
        sounding_T[-(-len(surveyed.audio_S) // SAMPLES_PER_FRAME) :] = False
    return spans.judge(
        surveyed.landmarks_TN3,
        surveyed.found_T & ~_still(surveyed),
        sounding_T,
        round(limits.min_seconds * FRAME_HZ),
        round(limits.max_seconds * FRAME_HZ),
        limits.min_face_px,
    )


def why_nothing(surveyed: Survey, source_spans: list[spans.Span]) -> str:
    """The reason of a source without a kept span: that of its longest, or that its picture mostly stands still."""
    if not surveyed.found_T.any():
        return NO_FACE
    longest = max(source_spans, key=lambda span: span.stop - span.start, default=None)
    if (surveyed.found_T & _still(surveyed)).sum() > (longest.stop - longest.start if longest else 0):
        return STILL
    return longest.state if longest else NO_SOUND


def _still(surveyed: Survey) -> np.ndarray:
    """Which frames only repeat a picture that stands still (T,)."""
    still_T = np.zeros(len(surveyed.found_T), bool)
    for start, stop in surveyed.notes.still:
        still_T[start:stop] = True
    return still_T


def remarks(notes: media.Notes, path: Path, name: str) -> dict[str, Any]:
    """What the ledger keeps of a source's notes: where and why it breaks off, and what was changed in reading it."""
    row: dict[str, Any] = {}
    if notes.cut is not None:
        row = {"cut_s": round(notes.cut_s or 0.0, 2), "message": str(notes.cut).replace(str(path), name)}
    return row | ({"notes": notes.lines} if notes.lines else {})


def clips(
    path: Path,
    source: Source,
    corpus: str,
    surveyed: Survey,
    kept: list[spans.Span],
    tick: Callable[[int], None] = lambda n: None,
) -> Iterator[Clip]:
    """Second pass: the clips of the kept spans, in order; `tick(0)` at each frame says that work goes on."""
    frames = _alive(media.read_frames(path, FRAME_HZ, stop=kept[-1].stop, notes=media.Notes()), tick)
    index = 0
    for span in kept:
        landmarks_TN3 = smooth(surveyed.landmarks_TN3[span.start : span.stop])
        crop_23 = crop.canonical(landmarks_TN3, CROP_PX)
        crops = []
        while index < span.stop:
            frame = next(frames)
            if index >= span.start:
                crops.append(crop.warp(frame, crop_23, CROP_PX))
            index += 1
        count = span.stop - span.start
        audio_S = np.zeros(0, np.float32) if surveyed.audio_S is None else surveyed.audio_S
        audio_S = audio_S[span.start * SAMPLES_PER_FRAME : span.stop * SAMPLES_PER_FRAME]
        audio_S = np.pad(audio_S, (0, count * SAMPLES_PER_FRAME - len(audio_S)))
        clip_data = ClipData(landmarks_TN3, audio_S, crops, surveyed.detected_share)
        yield Clip(
            key_of(corpus, source.path, span.start),
            count,
            {**_origin(source, corpus, surveyed, span, crop_23), **facts.measured(clip_data), **source.facts},
            members.landmarks_npy(crop.apply(landmarks_TN3, crop_23)),
            members.audio_wav(audio_S),
            media.encode_frames(crops),
        )


def _origin(source: Source, corpus: str, surveyed: Survey, span: spans.Span, crop_23: np.ndarray) -> dict[str, Any]:
    """The facts that say where a clip comes from: its source, its frames there, and its crop's transform."""
    return {
        "corpus": corpus,
        "source": source.path,
        "identity": source.identity,
        "start_frame": span.start,
        "stop_frame": span.stop,
        "source_fps": round(surveyed.fps, 4),
        "source_width": surveyed.width,
        "source_height": surveyed.height,
        "source_sha256": surveyed.sha256,
        "crop": crop_23.reshape(-1).tolist(),
        "crop_px": CROP_PX,
    }

"""The benchmark's rows as files: one clip written as a video, and dubbed by the code that dubs a user's.

Shape suffixes: T frames, U source frames, R references, S audio samples, F frames of a span,
N landmarks (478), 2 = (x, y), 3 = RGB.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.clip import NOT_FINITE, Material, Miss
from eval.dub_protocol import METHODS, REFERENCES
from eval.methods import frozen_mouth
from eval.redetect import Detector
from mytalk import media
from mytalk.command import UserError
from mytalk.dub import dubbing
from mytalk.dub.first_pass import FirstPass, find_face_spans
from mytalk.dub.person import PersonReference
from mytalk.face.landmarks import FRAME_HZ

if TYPE_CHECKING:
    from mytalk.dub.dubbing import Models

NO_FACE, NOT_WHOLE = "no_face", "face_not_throughout"


def source_of(read: Material, frames_UHW3: np.ndarray) -> PersonReference:
    """What is shown of the person, all of it from the source stretch, whose frames these are."""
    picked = np.unique(np.linspace(0, len(frames_UHW3) - 1, REFERENCES).round().astype(int))
    return PersonReference(
        landmarks_UN2=read.source_UN2,
        audio_S=read.source_audio_S,
        frames_RHW3=frames_UHW3[picked],
        frame_landmarks_RN2=read.source_UN2[picked],
    )


def write(
    folder: Path,
    frames_THW3: np.ndarray,
    read: Material,
    source: PersonReference,
    models: Models,
    detector: Detector,
    seed: int,
    steps: int,
) -> dict[str, Path]:
    """Make every row's mp4 in `folder`; row -> file. Raises Miss, MediaError, OSError.

    The clip is first written as the video that is dubbed. The ground truth is read from that and written once more,
    so that it has been through the codec as often as the dubbed rows.
    """
    made = {name: folder / f"{name}.mp4" for name in METHODS}
    video = folder / "dubbed_from.mp4"
    media.write_video(video, frames_THW3, FRAME_HZ, read.audio_S)
    media.write_video(made["ground_truth"], media.read_frames(video), FRAME_HZ, read.audio_S)
    found = _studied(video, detector)
    generated = {
        "mytalk": (dubbing.write_motion(found, read.audio_S, models, source, seed, steps), read.audio_S),
        "shuffled_audio": (
            dubbing.write_motion(found, read.other_audio_S, models, source, seed, steps),
            read.other_audio_S,
        ),
        "frozen_mouth": ([frozen_mouth(span.landmarks_FN2) for span in found.spans], read.audio_S),
    }
    for name, (landmarks, speech_S) in generated.items():
        if not all(np.isfinite(span_FN2).all() for span_FN2 in landmarks):
            raise Miss(NOT_FINITE, f"{name} wrote landmarks that are not finite")
        dubbing.render(found, landmarks, models, source, speech_S, made[name])
    video.unlink()
    return made


def _studied(video: Path, detector: Detector) -> FirstPass:
    """The first pass of dubbing. Frames that it would not dub show the true mouth, so the clip is a miss then."""
    try:
        found = find_face_spans(video, detector)
    except UserError as error:
        raise Miss(NO_FACE, str(error)) from error
    dubbed = sum(span.stop - span.start for span in found.spans)
    if dubbed < found.frames:
        raise Miss(NOT_WHOLE, f"{found.frames - dubbed} of {found.frames} frames show no face that could be dubbed")
    return found

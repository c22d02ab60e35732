"""What the models see of the person to be dubbed: a stretch of motion with its speech, and pictures of the mouth.

Shape suffixes: U frames of the stretch at 25 Hz, R references, N landmarks (478), H height, W width, S audio samples
(16 kHz), 3 = RGB, or (x, y, z) in crop px.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mytalk import media
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.dub.retiming import at_25_hz, speech_of_span
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX, FRAME_HZ, SAMPLES_PER_FRAME

STRETCH_FRAMES = 75  # of the stretch that shows the person's way of moving: as long as in training
REFERENCES = 25  # pictures of the mouth, as IP_LAP takes at inference


@dataclass(frozen=True)
class Sources:
    """Videos that show the person: how they speak, and how they look. None: the dubbed video itself."""

    motion: Path | None = None
    appearance: Path | None = None

    def paths(self) -> list[Path]:
        """Each once."""
        return list(dict.fromkeys(path for path in (self.motion, self.appearance) if path is not None))


@dataclass(frozen=True)
class PersonReference:
    """Motion and speech of a stretch of a person's video at 25 Hz, and reference frames with their landmarks."""

    landmarks_UN3: np.ndarray
    audio_S: np.ndarray  # U * 640 samples
    frames_RHW3: np.ndarray  # uint8 crops, 256 or 512 px
    frame_landmarks_RN3: np.ndarray


def person_reference(faces: FirstPass, audio_S: np.ndarray, side_px: int = CROP_PX) -> PersonReference:
    """The person as the longest span of a video shows them: its loudest 3 s, or all of it where it is shorter.

    `audio_S` is the video's own sound (zeros where it has none). The reference frames, crops of `side_px`, are spread
    evenly over the stretch and read from the video. Raises MediaError and OSError.
    """
    span = max(faces.spans, key=lambda span: span.stop - span.start)
    landmarks_TN3 = at_25_hz(span, faces.fps)
    speech_S = speech_of_span(span, faces.fps, audio_S)
    frames = min(len(landmarks_TN3), STRETCH_FRAMES)
    start = _loudest(speech_S, frames)
    at_25 = start + np.linspace(0, frames - 1, min(frames, REFERENCES)).round()
    last = len(span.landmarks_FN3) - 1
    picked = sorted({min(round(k * float(faces.fps) / FRAME_HZ), last) for k in at_25})
    return PersonReference(
        landmarks_UN3=landmarks_TN3[start : start + frames],
        audio_S=speech_S[start * SAMPLES_PER_FRAME : (start + frames) * SAMPLES_PER_FRAME],
        frames_RHW3=_crops(faces, span, picked, side_px),
        frame_landmarks_RN3=span.landmarks_FN3[picked],
    )


def _loudest(audio_S: np.ndarray, frames: int) -> int:
    """The start of the `frames` frames with the most energy, in frames at 25 Hz."""
    energy_T = np.square(audio_S, dtype=np.float64).reshape(-1, SAMPLES_PER_FRAME).sum(axis=1)
    sums = np.concatenate([[0.0], energy_T.cumsum()])
    return int(np.argmax(sums[frames:] - sums[:-frames]))


def _crops(faces: FirstPass, span: FaceSpan, picked: list[int], side_px: int) -> np.ndarray:
    """Crops of the frames `picked`, counted from the span's start: (R, side, side, 3)."""
    first, stop = span.start + picked[0], span.start + picked[-1] + 1
    frames = enumerate(media.read_frames(faces.video, faces.fps, first, stop), picked[0])
    chosen = ((frame, span.crops_F23[index]) for index, frame in frames if index in set(picked))
    return np.stack([crop.picture(frame, crop_23, side_px) for frame, crop_23 in chosen])

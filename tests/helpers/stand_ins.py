"""What tests of dubbing stand on: films of moving noise, a face that is known in each frame, a painter that inverts."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import ClassVar

import numpy as np

from mytalk import media
from mytalk.dub import first_pass
from mytalk.dub.person import PersonReference
from mytalk.dub.tracks import Followed, Track
from mytalk.face.landmarks import SAMPLES_PER_FRAME
from mytalk.face.track import FaceTrack
from mytalk.networks.motion.config import MotionConfig
from tests.helpers.heads import disc, swaying

NTSC = Fraction(30_000, 1001)
TINY = MotionConfig(width=32, heads=2, layers=1, hidden=32, kernel=3, speech_layers=1, identity_layers=1)


def film(path: Path, frames: int, fps: float | Fraction = 25, width: int = 160, height: int = 120, hz: int = 16_000):
    """A video of drifting soft noise, with a sound that grows louder; `hz` 0: without sound."""
    random = np.random.default_rng(0)
    coarse = random.integers(30, 220, (height // 8 + 2, (width + frames) // 8 + 3, 3))
    field = np.kron(coarse, np.ones((8, 8, 1), int)).astype(np.uint8)
    pictures = [field[:height, k : k + width] for k in range(frames)]
    sound = None
    if hz:
        samples = round(frames / Fraction(fps) * hz)
        sound = (np.linspace(0.05, 0.5, samples) * random.uniform(-1, 1, samples)).astype(np.float32)
    media.write_video(path, pictures, fps, sound, hz or 16_000)
    return path


def wav(path: Path, seconds: float, hz: int = 16_000) -> Path:
    """Noise at constant loudness."""
    import wave

    samples = np.random.default_rng(1).integers(-8000, 8000, round(seconds * hz), dtype=np.int16)
    with wave.open(str(path), "wb") as opened:
        opened.setnchannels(1)
        opened.setsampwidth(2)
        opened.setframerate(hz)
        opened.writeframes(samples.tobytes())
    return path


class Seer:
    """Stands in for the detector and knows where the main face is in every frame; nowhere where `hidden`."""

    def __init__(self, landmarks_FN3: np.ndarray, hidden=()):
        self.landmarks_FN3, self.hidden = landmarks_FN3, list(hidden)

    def find_faces(self, frames, on_frame=lambda: None) -> FaceTrack:
        sizes = [frame_HW3.shape for frame_HW3 in frames]
        landmarks_FN3, found_F = self.landmarks_FN3[: len(sizes)].copy(), np.ones(len(sizes), bool)
        hidden = [index for index in self.hidden if index < len(sizes)]
        landmarks_FN3[hidden], found_F[hidden] = 0, False
        for _ in sizes:
            on_frame()
        height, width, _ = sizes[-1]
        return FaceTrack(landmarks_FN3, found_F, width, height)

    def follow(self, frames, on_frame=lambda: None) -> Followed:
        seen = self.find_faces(frames, on_frame)
        there = np.flatnonzero(seen.found_T).tolist()
        track = Track(0)
        for index in there:
            track.see(index, np.zeros((seen.height, seen.width, 3), np.uint8), seen.landmarks_TN3[index])
        return Followed([track] * bool(there), [], len(seen.found_T), seen.width, seen.height)


class Inverter:
    """A painter that inverts the colours inside a soft disc; it keeps what it was called with."""

    side_px = 256
    in_order = True

    calls: ClassVar[list[tuple[np.ndarray, ...]]] = []

    def __init__(self, generator, references_RHW3, reference_landmarks_RN2):
        assert references_RHW3.shape == (len(reference_landmarks_RN2), 256, 256, 3)
        assert references_RHW3.dtype == np.uint8

    def paint_each(self, frames_BHW3, several, regions_BV2, start=0, before=None):
        assert frames_BHW3.dtype == np.uint8
        [new_landmarks_FN2] = several
        assert (before is None) == (start == 0)
        self.calls.append((frames_BHW3, new_landmarks_FN2[start : start + len(frames_BHW3)], regions_BV2))
        return [255 - frames_BHW3], np.stack([disc()] * len(frames_BHW3))


def own(found: first_pass.FirstPass) -> list[np.ndarray]:
    return [span.landmarks_FN3 for span in found.spans]


def studied(frames: int, fps: float | Fraction, start: int = 0) -> first_pass.FirstPass:
    """A study with one span, made without a video."""
    heads = swaying(frames, fps, side_px=160, centre=(128.0, 120.0))
    span = first_pass.FaceSpan(start, start + frames, np.repeat(np.eye(3)[None, :2], len(heads), 0), heads)
    return first_pass.FirstPass(Path("none"), Fraction(fps), 256, 256, start + frames, [span])


def a_source(frames: int = 30) -> PersonReference:
    heads = swaying(frames, side_px=150, centre=(120.0, 130.0))
    sound = np.random.default_rng(3).uniform(-0.3, 0.3, frames * SAMPLES_PER_FRAME).astype(np.float32)
    return PersonReference(heads, sound, np.zeros((1, 256, 256, 3), np.uint8), heads[:1])

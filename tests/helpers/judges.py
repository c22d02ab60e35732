"""Judges that see nothing but the brightness of a picture."""

from __future__ import annotations

import numpy as np
import pytest

from eval.judges import load
from eval.judges.public_syncnet import LipSync


class LevelPerson:
    """A picture's brightness is its person."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, pictures_KHW3: np.ndarray, landmarks_KN3: np.ndarray) -> np.ndarray:
        assert len(pictures_KHW3) == len(landmarks_KN3)
        self.asked.append(len(pictures_KHW3))
        level_K = pictures_KHW3.mean(axis=(1, 2, 3))
        return np.stack([level_K, np.zeros(len(level_K))], axis=1)


class LevelPerception:
    """Two pictures are as far apart as their brightness."""

    def __init__(self) -> None:
        self.crops = 0

    def seen(self, crops_KHW3: np.ndarray) -> np.ndarray:
        self.crops += len(crops_KHW3)
        return crops_KHW3.mean(axis=(1, 2, 3))

    def distances(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.abs(one - other)

    def embed(self, seen: np.ndarray) -> np.ndarray:
        return np.stack([seen, np.square(seen)], axis=1)


class LevelSets:
    """A frame's features are its brightness and that of its upper half."""

    def embed(self, frames_THW3: np.ndarray) -> np.ndarray:
        halves = frames_THW3[:, : frames_THW3.shape[1] // 2]
        return np.stack([part.mean(axis=(1, 2, 3)) for part in (frames_THW3, halves)], axis=1)


class LevelLpips:
    """Two pictures are as far apart as their brightness."""

    def distances(self, one_KHW3: np.ndarray, other_KHW3: np.ndarray) -> np.ndarray:
        return np.abs(one_KHW3.mean(axis=(1, 2, 3)) - other_KHW3.mean(axis=(1, 2, 3)))


class LevelMouths:
    """A frame's features are its brightness and one."""

    def embed(self, frames_THW3: np.ndarray, landmarks_TN3: np.ndarray) -> np.ndarray:
        assert len(frames_THW3) == len(landmarks_TN3)
        return np.stack([frames_THW3.mean(axis=(1, 2, 3)), np.ones(len(frames_THW3))], axis=1)


class NoPhones:
    """No bilabial is ever spoken."""

    def bilabials_s(self, audio_S: np.ndarray) -> list[tuple[float, float]]:
        return []


class AlwaysSpeech:
    """All sound is speech."""

    name = "a stand-in"

    def speech_T(self, audio_S: np.ndarray) -> np.ndarray:
        return np.ones(-(-len(audio_S) // 640))


class Deaf:
    """Every mouth fits every sound alike."""

    def score(self, frames_THW3: np.ndarray, boxes_T4: np.ndarray, audio_S: np.ndarray) -> LipSync:
        assert boxes_T4.shape == (len(frames_THW3), 4)
        return LipSync(confidence=0.0, distance=1.0, offset_frames=0)


def stand_in(patch: pytest.MonkeyPatch) -> None:
    """Make the judges of reports those above, whatever is installed."""
    made = {
        "person": LevelPerson,
        "arcface": LevelPerson,
        "perception": LevelPerception,
        "inception": LevelSets,
        "i3d": LevelSets,
        "lpips": LevelLpips,
        "lip_reading": LevelMouths,
        "phones": NoPhones,
        "lse": Deaf,
        "speech": AlwaysSpeech,
    }
    assert set(made) == set(load.JUDGES)
    patch.setattr(load, "missing", lambda: {})
    patch.setattr(load, "load", lambda names, device="cpu": {name: made[name]() for name in names})
    patch.setattr(load, "sources", lambda names: {})
    patch.setattr(load, "digests", lambda names: {})

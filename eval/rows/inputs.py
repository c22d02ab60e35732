"""What a clip is scored with, read from the shards.

Shape suffixes: T frames, N landmarks (478), U source frames, S audio samples, H height, W width, 3 = (x, y, z) in px of
the crop, 3 = RGB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_pipeline.shards import reader, video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.metrics.metric import Miss
from eval.tasks import ScoringTask, Settings, Window, other_speech
from mytalk.face.landmarks import FRAME_HZ

# Column of the manifest: when p, b and m are spoken in the source, as `0.41-0.50 1.22-1.30` in seconds.
BILABIALS = "bilabials"
NO_SOURCE, NO_OTHER_SPEECH = "no_source", "no_other_speech"


@dataclass(frozen=True)
class ClipInputs:
    """A clip's true landmarks and speech, those of its person's source window, and another clip's speech."""

    truth_TN3: np.ndarray
    audio_S: np.ndarray
    source_UN3: np.ndarray
    source_audio_S: np.ndarray
    other_audio_S: np.ndarray
    features_TD: np.ndarray | None = None  # the values of a column, for a model that hears one
    source_features_UD: np.ndarray | None = None
    other_features_TD: np.ndarray | None = None


def read_inputs(manifest: Manifest, settings: Settings, task: ScoringTask, column: str = "") -> ClipInputs:
    """Read what a clip is scored with, and the values of a column that is named. Raises Miss, ClipError, OSError."""
    if task.source is None:
        raise Miss(NO_SOURCE, "its person has no other clip, and it is too short to be source and scored")
    audio_S = _audio(manifest, task.scored)
    truth_TN3, source_UN3 = _landmarks(manifest, task.scored), _landmarks(manifest, task.source)
    other_row, other_audio_S = _other_audio(manifest, settings, task, audio_S)
    other_TD = reader.read_features(manifest, column, other_row)
    features_TD = _features(manifest, column, task.scored)
    return ClipInputs(
        truth_TN3=truth_TN3,
        audio_S=audio_S,
        source_UN3=source_UN3,
        source_audio_S=_audio(manifest, task.source),
        other_audio_S=other_audio_S,
        features_TD=features_TD,
        source_features_UD=_features(manifest, column, task.source),
        other_features_TD=None if other_TD is None or features_TD is None else np.resize(other_TD, features_TD.shape),
    )


def read_bilabials(manifest: Manifest, window: Window) -> tuple[tuple[float, float], ...] | None:
    """(start, stop) in seconds from the window's begin of its p, b and m; None where the manifest does not say.

    Raises ClipError for a text that is none of times.
    """
    if not manifest.has(BILABIALS):
        return None
    text = manifest.at(window.row, BILABIALS)
    if text is None:
        return None
    begin_s = (int(manifest.at(window.row, "start_frame")) + window.start) / FRAME_HZ
    end_s = (window.stop - window.start) / FRAME_HZ
    try:
        edges_s = [[float(edge) - begin_s for edge in pair.split("-")] for pair in text.split()]
        return tuple((start_s, stop_s) for start_s, stop_s in edges_s if stop_s > 0 and start_s < end_s)
    except ValueError:
        raise ClipError(str(manifest.at(window.row, "key")), "bilabials", f"'{text}' is no list of times") from None


def read_frames(manifest: Manifest, window: Window) -> np.ndarray:
    """Frames of a window, (T, H, W, 3) uint8. Raises ClipError, OSError."""
    return video_reader.read_video(manifest, window.row, range(window.start, window.stop))


def swapped(audio_S: np.ndarray, other_S: np.ndarray) -> np.ndarray | None:
    """Another clip's speech, cut or repeated to the clip's length; None where the sound is the clip's own."""
    shared = min(len(audio_S), len(other_S))
    if np.array_equal(audio_S[:shared], other_S[:shared]):
        return None
    return np.resize(other_S, len(audio_S))


def _landmarks(manifest: Manifest, window: Window) -> np.ndarray:
    return reader.read_landmarks(manifest, window.row, window.start, window.stop)


def _audio(manifest: Manifest, window: Window) -> np.ndarray:
    return reader.read_audio(manifest, window.row, window.start, window.stop)


def _features(manifest: Manifest, column: str, window: Window) -> np.ndarray | None:
    return reader.read_features(manifest, column, window.row, window.start, window.stop)


def _other_audio(
    manifest: Manifest, settings: Settings, task: ScoringTask, audio_S: np.ndarray
) -> tuple[int, np.ndarray]:
    for row in other_speech(manifest, settings, task):
        other_S = swapped(audio_S, reader.read_audio(manifest, row))
        if other_S is not None:
            return row, other_S
    raise Miss(NO_OTHER_SPEECH, "no other clip of the split has another sound")

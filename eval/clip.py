"""Scoring one clip: read it, make every row's landmarks, measure them, or say why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data_pipeline.shards import reader as clips
from data_pipeline.shards.manifest import Manifest
from eval import metrics, plan
from eval.methods import frozen_mouth, head_scale, swapped, written
from eval.records import ClipScore
from mytalk.face.landmarks import CROP_PX
from mytalk.networks.motion import MotionModel

NO_SOURCE, NO_OTHER_SPEECH = "no_source", "no_other_speech"
STILL, NOT_FINITE = "truth_still", "generated_not_finite"


class Miss(Exception):
    """A clip that cannot be scored. `reason` is a short snake_case code."""

    def __init__(self, reason: str, message: str):
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Material:
    """What a clip is scored with: its landmarks (px in its crop) and speech, its source's, another clip's speech."""

    truth_TN2: np.ndarray
    audio_S: np.ndarray
    source_UN2: np.ndarray
    source_audio_S: np.ndarray
    other_audio_S: np.ndarray


def score(manifest: Manifest, settings: plan.Settings, task: plan.Task, model: MotionModel) -> ClipScore:
    """The metrics of every row on one clip; a miss with its reason where there are none. Raises OSError."""
    try:
        truth_TN2, rows = landmarks(manifest, settings, task, model)
        to_256 = CROP_PX / float(manifest.column("crop_px")[task.scored.row])
        return measured(task, truth_TN2 * to_256, {name: made * to_256 for name, made in rows.items()})
    except (Miss, clips.ClipError) as error:
        return ClipScore(task.key, task.person, reason=error.reason, message=str(error))


def material(manifest: Manifest, settings: plan.Settings, task: plan.Task) -> Material:
    """Read what a clip is scored with from the shards. Raises Miss, ClipError, OSError."""
    if task.source is None:
        raise Miss(NO_SOURCE, "its person has no other clip, and it is too short to be source and scored")
    audio_S = _read(clips.read_audio, manifest, task.scored)
    return Material(
        truth_TN2=_read(clips.read_landmarks, manifest, task.scored),
        audio_S=audio_S,
        source_UN2=_read(clips.read_landmarks, manifest, task.source),
        source_audio_S=_read(clips.read_audio, manifest, task.source),
        other_audio_S=_other_speech(manifest, settings, task, audio_S),
    )


def landmarks(
    manifest: Manifest, settings: plan.Settings, task: plan.Task, model: MotionModel
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The true landmarks of the scored stretch and those of every row, (T, 478, 2) px in the clip's crop.

    Raises Miss, ClipError, OSError.
    """
    read = material(manifest, settings, task)
    seed, steps = plan.noise_seed(settings, task.key), settings.sampler_steps
    source = (read.source_UN2, read.source_audio_S)
    rows = {
        "mytalk": written(model, read.truth_TN2, *source, read.audio_S, seed, steps),
        "shuffled_audio": written(model, read.truth_TN2, *source, read.other_audio_S, seed, steps),
        "frozen_mouth": frozen_mouth(read.truth_TN2),
    }
    return read.truth_TN2, rows


def measured(task: plan.Task, truth_TN2: np.ndarray, rows: dict[str, np.ndarray]) -> ClipScore:
    """Measure every row against the truth, all in px at 256. Raises Miss."""
    for name, made_TN2 in rows.items():
        if not np.isfinite(made_TN2).all():
            raise Miss(NOT_FINITE, f"{name} wrote landmarks that are not finite")
    scale_T = head_scale(truth_TN2)
    try:
        scores = {name: metrics.measure(truth_TN2, made_TN2, scale_T) for name, made_TN2 in rows.items()}
    except metrics.StillTruth as error:
        raise Miss(STILL, str(error)) from error
    curves = {}
    if task.pictured:
        shown = {"truth": truth_TN2, "mytalk": rows["mytalk"], "shuffled_audio": rows["shuffled_audio"]}
        curves = {name: metrics.openings(made, scale_T).round(3).tolist() for name, made in shown.items()}
    return ClipScore(task.key, task.person, methods=scores, openings_px=curves)


def _read(reader: Callable[..., np.ndarray], manifest: Manifest, place: plan.Stretch) -> np.ndarray:
    return reader(manifest, place.row, place.start, place.stop)


def _other_speech(manifest: Manifest, settings: plan.Settings, task: plan.Task, audio_S: np.ndarray) -> np.ndarray:
    for row in plan.other_speech(manifest, settings, task):
        other_S = swapped(audio_S, clips.read_audio(manifest, row))
        if other_S is not None:
            return other_S
    raise Miss(NO_OTHER_SPEECH, "no other clip of the split has another sound")

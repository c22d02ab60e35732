"""Benchmarking one clip: make every row's video, see it again, measure it, or say why not."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest
from eval import clip, dub_metrics, kept, plan, redetect, rows
from eval.clip import STILL, Miss
from eval.dub_metrics import Judges, Seen, Truth
from eval.dub_protocol import LEAST_DETECTED
from eval.metrics import StillTruth
from eval.records import ClipScore
from mytalk import atomic, media
from mytalk.face.landmarks import FRAME_HZ

if TYPE_CHECKING:
    from mytalk.dub.dubbing import Models

LOST, OTHER_LENGTH = "face_lost", "other_length"
CURVES = ("mytalk", "shuffled_audio")


@dataclass(frozen=True)
class Bench:
    """All that is needed for a clip but its task: where it is read and kept, the models, the judges, the detector."""

    manifest: Manifest
    settings: plan.Settings
    out: Path
    models: Models
    judges: Judges
    detector: redetect.Detector


def score(bench: Bench, task: plan.Task) -> ClipScore:
    """The metrics of every row on one clip. Failing in one row it is a miss in all. Raises OSError."""
    try:
        with tempfile.TemporaryDirectory(prefix=atomic.TEMPORARY, dir=bench.out) as folder:
            return _score(bench, task, Path(folder))
    except StillTruth as error:
        return ClipScore(task.key, task.person, reason=STILL, message=str(error))
    except (Miss, reader.ClipError, media.MediaError) as error:
        return ClipScore(task.key, task.person, reason=error.reason, message=str(error))


def _score(bench: Bench, task: plan.Task, folder: Path) -> ClipScore:
    read = clip.material(bench.manifest, bench.settings, task)
    assert task.source is not None, "material refuses a task without a source"
    frames_THW3, source_UHW3 = _frames(bench.manifest, task.scored), _frames(bench.manifest, task.source)
    source = rows.source_of(read, source_UHW3)
    seed, steps = plan.noise_seed(bench.settings, task.key), bench.settings.sampler_steps
    files = rows.write(folder, frames_THW3, read, source, bench.models, bench.detector, seed, steps)
    truth = Truth(frames_THW3, read.truth_TN2, read.audio_S, read.source_UN2)
    seen = {name: _seen(name, path, bench.detector, len(frames_THW3)) for name, path in files.items()}
    scores = {name: dub_metrics.measure(truth, row, bench.judges) for name, row in seen.items()}
    if not task.pictured:
        return ClipScore(task.key, task.person, methods=scores)
    media.write_video(folder / f"{kept.SOURCE}.mp4", source_UHW3, FRAME_HZ, read.source_audio_S)
    kept.keep(folder, bench.out, task.key)
    return ClipScore(task.key, task.person, methods=scores, openings_px=_curves(truth, seen))


def _seen(name: str, path: Path, detector: redetect.Detector, frames: int) -> Seen:
    seen = redetect.see(path, detector)
    if len(seen.found_T) != frames:
        raise Miss(OTHER_LENGTH, f"{name} has {len(seen.found_T)} frames, the clip {frames}")
    share = float(seen.found_T.mean())
    if share < LEAST_DETECTED:
        raise Miss(LOST, f"a face is detected in {100 * share:.0f} % of the frames of {name}")
    return seen


def _curves(truth: Truth, seen: dict[str, Seen]) -> dict[str, list[float]]:
    """Openings over time of the truth and two rows, px at the head's mean size."""
    made = {}
    for name in CURVES:
        made["truth"], made[name] = dub_metrics.openings(truth.landmarks_TN2, seen[name].landmarks_TN2)
    return {name: values.round(3).tolist() for name, values in made.items()}


def _frames(manifest: Manifest, place: plan.Stretch) -> np.ndarray:
    return reader.read_video(manifest, place.row, range(place.start, place.stop))

"""One clip's cheats: made, encoded, detected again, and measured by everything that measures a dubbed video."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.shards import video_reader
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.cheats.plan import OWN, REAL, SILENT, SWAPPED, RealClip, Row
from eval.metrics import VIDEO_METRICS
from eval.metrics.detection import LEAST_DETECTED
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, Truth
from eval.rows.inputs import ClipInputs, read_frames, read_inputs
from eval.score_file import ClipScore
from eval.tasks import ScoringTask, Settings, generator, other_speech
from mytalk import atomic, media
from mytalk.face.landmarks import FRAME_HZ
from mytalk.media.writing import DUB_CODEC

if TYPE_CHECKING:
    from mytalk.face.detector import Detector

NO_STRANGER, REAL_LOST = "no_other_person", "real_not_detected"


@dataclass(frozen=True)
class CheatBench:
    """All that scores a clip's cheats."""

    manifest: Manifest
    settings: Settings
    out: Path
    rows: Mapping[str, Row]
    evaluators: Evaluators
    detector: Detector


def score(bench: CheatBench, task: ScoringTask) -> ClipScore:
    """The measures of every row on one clip; a row without a face is left out. Raises OSError."""
    try:
        inputs = read_inputs(bench.manifest, bench.settings, task)
        clip = _real(bench, task, inputs)
        assert task.source is not None, "read_inputs raises Miss without one"
        frames_THW3, source_UHW3 = (read_frames(bench.manifest, window) for window in (task.scored, task.source))
        truth = Truth(frames_THW3, inputs.truth_TN3, inputs.audio_S, inputs.source_UN3, source_UHW3)
        heard = {
            OWN: truth,
            SILENT: replace(truth, audio_S=np.zeros_like(inputs.audio_S), original_S=inputs.audio_S),
            SWAPPED: replace(truth, audio_S=inputs.other_audio_S, original_S=inputs.audio_S),
        }  # one for each sound, so that what is the truth's alone is found once for all rows that share it
        scores = {}
        shown: dict[tuple, DetectedVideo] = {}  # pictures that several rows share, under other sounds
        shared = [pictures for pictures, count in Counter(map(_pictures, bench.rows.values())).items() if count > 1]
        for name, row in bench.rows.items():
            clip = replace(clip, random=generator(bench.settings.seed, task.key, name))
            video = shown.get(_pictures(row)) or _shown(bench, row, clip)
            if _pictures(row) in shared:
                shown[_pictures(row)] = video
            if _has_face(video):
                scores[name] = measure_each(Comparison(heard[row.sound], video, bench.evaluators))
            elif name == REAL:
                raise Miss(REAL_LOST, f"a face is detected in less than {LEAST_DETECTED:g} of the clip's own frames")
        return ClipScore(task.key, task.person, methods=scores)
    except (Miss, ClipError, media.MediaError) as error:
        return ClipScore(task.key, task.person, reason=error.reason, message=str(error))


def _pictures(row: Row) -> tuple:
    """Rows that are alike in this show the same pictures."""
    return row.make, row.crf, row.encoder


def _has_face(video: DetectedVideo) -> bool:
    return float(video.detected_T.mean()) >= LEAST_DETECTED


def measure_each(compared: Comparison) -> dict[str, float]:
    """Every measure whose judge is loaded; one that cannot be had of this row is left out."""
    values = {}
    for name, metric in VIDEO_METRICS.items():
        if metric.needs is None or getattr(compared.evaluators, metric.needs) is not None:
            try:
                values[name] = float(metric.compute(compared))
            except Miss:
                continue
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _real(bench: CheatBench, task: ScoringTask, inputs: ClipInputs) -> RealClip:
    """The clip after the codec, and the frames of somebody else. Raises Miss where there is nobody else."""
    frames_THW3 = _through(bench, read_frames(bench.manifest, task.scored))
    other = next(other_speech(bench.manifest, bench.settings, task), None)
    if other is None or bench.manifest.at(other, "identity") == task.person:
        raise Miss(NO_STRANGER, "the split has no other person to swap with")
    count = min(len(frames_THW3), int(bench.manifest.at(other, "frames")))
    stranger_THW3 = video_reader.read_video(bench.manifest, other, range(count))
    places_T = np.resize(np.arange(count), len(frames_THW3))
    random = generator(bench.settings.seed, task.key, REAL)
    return RealClip(frames_THW3, inputs.truth_TN3, stranger_THW3[places_T], random)


def _shown(bench: CheatBench, row: Row, clip: RealClip) -> DetectedVideo:
    from eval.rows.videos import filled
    from mytalk.face.smooth import smooth
    from mytalk.face.track import find_faces

    made_THW3 = clip.frames_THW3 if row.make is None else row.make(clip)
    frames_THW3 = _through(bench, made_THW3, row)
    track = find_faces(frames_THW3, bench.detector)
    landmarks_TN3 = filled(track.landmarks_TN3, track.found_T)
    return DetectedVideo(frames_THW3, smooth(landmarks_TN3) if track.found_T.any() else landmarks_TN3, track.found_T)


def _through(bench: CheatBench, frames_THW3: np.ndarray, row: Row | None = None) -> np.ndarray:
    """The frames as an mp4 shows them, written as a dubbed video is but for a row's own encoder and crf."""
    with tempfile.TemporaryDirectory(prefix=atomic.TEMPORARY, dir=bench.out) as folder:
        path = Path(folder) / "row.mp4"
        if row is None or row.crf is None:
            media.write_video(path, frames_THW3, FRAME_HZ)
        else:
            codec = {**DUB_CODEC, "crf": str(row.crf)}
            path.write_bytes(media.encode_frames(frames_THW3, FRAME_HZ, codec, row.encoder))
        return np.stack(list(media.read_frames(path)))

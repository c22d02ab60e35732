"""The rows of `benchmark`: one clip dubbed by the code that dubs a user's video, detected again, and measured.

Shape suffixes: T frames, U source frames, R references, S audio samples, F frames of a span, N landmarks (478),
H height, W width, 3 = RGB, or (x, y, z) in px.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from eval.metrics import lips, measure_videos, people
from eval.metrics.detection import LEAST_DETECTED
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, RowFailed, Truth
from eval.rows import features, painted, ridge, saved
from eval.rows.inputs import ClipInputs, read_bilabials, read_frames, read_inputs
from eval.rows.landmarks import NOT_FINITE, SHUFFLED, frozen_mouth
from eval.rows.stages import stage
from eval.score_file import ALL_ROWS, FLOOR, ClipScore
from eval.tasks import ScoringTask, Settings, noise_seed
from mytalk import atomic, media
from mytalk.command import UserError
from mytalk.dub import dubbing
from mytalk.dub.first_pass import FirstPass, find_face_spans
from mytalk.dub.person import PersonReference
from mytalk.dub.retiming import cut_or_pad, speech_of_span
from mytalk.face.landmarks import FRAME_HZ, without_mouth
from mytalk.face.smooth import smooth
from mytalk.face.track import find_faces

if TYPE_CHECKING:
    from eval.rows.ridge import Ridge
    from mytalk.dub.dubbing import Models
    from mytalk.face.detector import Detector

NO_FACE, NOT_WHOLE = "no_face", "face_not_throughout"
LOST, OTHER_LENGTH = "face_lost", "other_length"
REFERENCES = 25  # pictures of the person from the source window, as many as `dub` takes
CURVES = ("mytalk", "shuffled_audio")
SILENT = "silent_audio"
FROZEN = "the clip with its mean lower face in the head's frame, moved with the head, painted by the same generator"
ROWS = {  # by definition, as the protocol states them
    FLOOR: "the clip's own frames, written and read twice as a dubbed row is: what codec and detector cost",
    "mytalk": "the clip dubbed with its own speech",
    "shuffled_audio": f"the clip dubbed by {SHUFFLED}",
    SILENT: "the clip dubbed with silence, by the same model, noise and head: what the mouth does without any sound",
    "frozen_mouth": FROZEN,
    ridge.NAME: f"the clip dubbed with its own speech, by {ridge.DEFINITION}; painted by the same generator",
}
CROSS_ROWS = {  # of the protocol cross-audio
    FLOOR: f"{ROWS[FLOOR]}; with its own speech",
    "mytalk": "the clip dubbed with the speech of its pair: another clip's (of another person where there is one), cut "
    "or repeated to length",
    SILENT: f"{ROWS[SILENT]}; its sync is measured against the speech of the pair",
    "frozen_mouth": f"{FROZEN}; with the speech of the pair",
}


@dataclass(frozen=True)
class Bench:
    """All that scores a clip: where it is read, where its videos are saved, models, evaluators, detector.

    Without a `fitted` ridge regression its row is missing. `others`: the rows of other methods, from a clip's key, its
    truth and the folder of its files (`given.of_clip`). `cross_audio`: every row but the real video says the speech of
    another clip, or what `speeches` has for the clip's name (`saved.name_of`).
    """

    manifest: Manifest
    settings: Settings
    out: Path
    models: Models
    evaluators: Evaluators
    detector: Detector
    fitted: Ridge | None = None
    others: Callable[[str, Truth, Path], dict[str, DetectedVideo]] | None = None
    cross_audio: bool = False
    speeches: Mapping[str, Path] | None = None


def score(bench: Bench, task: ScoringTask) -> ClipScore:
    """The metrics of every row on one clip. Failing in one row it is a miss in all. Raises OSError."""
    try:
        with tempfile.TemporaryDirectory(prefix=atomic.TEMPORARY, dir=bench.out) as folder:
            return _score(bench, task, Path(folder))
    except RowFailed as error:
        miss = ClipScore(task.key, task.person, reason=error.reason, message=str(error))
        return replace(miss, failed=error.rows, usable=error.usable)
    except (Miss, ClipError, media.MediaError) as error:
        return ClipScore(task.key, task.person, reason=error.reason, message=str(error))


def _score(bench: Bench, task: ScoringTask, folder: Path) -> ClipScore:
    with stage("read the clip"):
        inputs = read_inputs(bench.manifest, bench.settings, task)
        assert task.source is not None, "read_inputs refuses a task without a source"
        frames_THW3, source_UHW3 = read_frames(bench.manifest, task.scored), read_frames(bench.manifest, task.source)
        bilabials_s = read_bilabials(bench.manifest, task.scored)
        if bench.speeches is not None:
            speech_S = media.read_audio(bench.speeches[saved.name_of(task.key)])
            inputs = replace(inputs, other_audio_S=cut_or_pad(speech_S, len(inputs.audio_S)))
    source = source_of(inputs, source_UHW3)
    seed, steps = noise_seed(bench.settings, task.key), bench.settings.sampler_steps
    truth = Truth(frames_THW3, inputs.truth_TN3, inputs.audio_S, inputs.source_UN3, source_UHW3, bilabials_s)
    own_S, other_S = inputs.audio_S, inputs.other_audio_S
    said = replace(truth, audio_S=other_S, original_S=own_S, bilabials_s=None) if bench.cross_audio else truth
    others = {} if bench.others is None else bench.others(task.key, said, folder)  # before anything is dubbed
    try:
        files = write(folder, frames_THW3, inputs, source, bench, seed, steps)
        with stage("decode, detect again"):
            videos = _all_detected(files, bench.detector, len(frames_THW3))
    except RowFailed as error:
        raise RowFailed(error.reason, str(error), error.rows, [*others, *error.usable]) from error
    for name, sound_S in (("shuffled_audio", other_S), (SILENT, np.zeros_like(own_S))):
        if name in videos:
            videos[name] = replace(videos[name], sound_S=sound_S)
    videos |= others
    rows = {
        name: Comparison((truth if name == FLOOR else said).first(len(video.detected_T)), video, bench.evaluators)
        for name, video in videos.items()
    }
    with stage("measure and judge"):
        scores, omitted = measure_videos(rows, bench.cross_audio)
        features.save(bench.out, task.key, rows)
        traits = {} if bench.cross_audio else people.of_rows(rows)
    done = ClipScore(task.key, task.person, methods=scores, omitted=omitted, traits=traits)
    if not task.pictured:
        return done
    media.write_video(folder / f"{saved.SOURCE}.mp4", source_UHW3, FRAME_HZ, inputs.source_audio_S)
    saved.write_lips(folder, {saved.SOURCE: inputs.source_UN3, **{n: v.landmarks_TN3 for n, v in videos.items()}})
    saved.save(folder, bench.out, task.key)
    pictured = {name: videos[name] for name in CURVES if name in videos}
    return replace(done, openings_px=curves(truth, pictured))


def source_of(inputs: ClipInputs, frames_UHW3: np.ndarray) -> PersonReference:
    """What is shown of the person, all of it from the source window, whose frames these are."""
    picked = np.unique(np.linspace(0, len(frames_UHW3) - 1, REFERENCES).round().astype(int))
    return PersonReference(
        landmarks_UN3=inputs.source_UN3,
        audio_S=inputs.source_audio_S,
        frames_RHW3=frames_UHW3[picked],
        frame_landmarks_RN3=inputs.source_UN3[picked],
    )


def write(
    folder: Path,
    frames_THW3: np.ndarray,
    inputs: ClipInputs,
    source: PersonReference,
    bench: Bench,
    seed: int,
    steps: int,
) -> dict[str, Path]:
    """Make every row's mp4 in `folder`; row -> file. Raises Miss, MediaError, OSError.

    The clip is first written as the video that is dubbed. The ground truth is read from that and written once more,
    so that it has been through the codec as often as the dubbed rows.
    """
    video = folder / "dubbed_from.mp4"
    files, models = {FLOOR: folder / f"{FLOOR}.mp4"}, bench.models
    with stage("write the clip twice"):
        media.write_video(video, frames_THW3, FRAME_HZ, inputs.audio_S)
        media.write_video(files[FLOOR], media.read_frames(video), FRAME_HZ, inputs.audio_S)
    with stage("first pass"):
        faces = _first_pass(video, bench.detector)
    own_S, other_S = inputs.audio_S, inputs.other_audio_S
    said_S = other_S if bench.cross_audio else own_S
    heard = {"mytalk": said_S, **({} if bench.cross_audio else {"shuffled_audio": other_S}), SILENT: 0 * own_S}
    with stage("generate the motion"):
        generated = {
            name: (dubbing.write_motion(faces, speech_S, models.motion, source, seed, steps), speech_S)
            for name, speech_S in heard.items()
        }
        generated["frozen_mouth"] = ([frozen_mouth(span.landmarks_FN3) for span in faces.spans], said_S)
        if bench.fitted is not None:
            generated[ridge.NAME] = (_by_ridge(bench.fitted, faces, own_S, source), own_S)
    broken = [name for name, (spans, _) in generated.items() if not all(np.isfinite(span).all() for span in spans)]
    if broken:
        raise RowFailed(NOT_FINITE, f"{', '.join(broken)} wrote landmarks that are not finite", broken)
    files |= {name: folder / f"{name}.mp4" for name in generated}
    with stage("paint and write"):
        painted.write(faces, {files[name]: painted.Row(*row) for name, row in generated.items()}, models, source)
    video.unlink()
    return files


def _by_ridge(fitted: Ridge, faces: FirstPass, speech_S: np.ndarray, source: PersonReference) -> list[np.ndarray]:
    """Landmarks of every span, as `dubbing.write_motion` gives them; the video is at 25 fps."""
    return [
        fitted.landmarks(
            without_mouth(span.landmarks_FN3), source.landmarks_UN3, speech_of_span(span, faces.fps, speech_S)
        )
        for span in faces.spans
    ]


def _first_pass(video: Path, detector: Detector) -> FirstPass:
    """The first pass of dubbing. Frames that it would not dub show the true mouth, so the clip is a miss then."""
    try:
        faces = find_face_spans(video, detector)
    except UserError as error:
        raise RowFailed(NO_FACE, str(error), [ALL_ROWS]) from error
    dubbed = sum(span.stop - span.start for span in faces.spans)
    if dubbed < faces.frames:
        lost = f"{faces.frames - dubbed} of {faces.frames} frames show no face that could be dubbed"
        raise RowFailed(NOT_WHOLE, lost, [ALL_ROWS])
    return faces


def detect(video: Path, detector: Detector) -> DetectedVideo:
    """Decode a file from its first frame to its last, detect the face again, and smooth it as `dub` does.

    Raises MediaError, OSError.
    """
    frames_THW3 = np.stack(list(media.read_frames(video)))
    track = find_faces(frames_THW3, detector)
    landmarks_TN3 = filled(track.landmarks_TN3, track.found_T)
    if track.found_T.any():
        landmarks_TN3 = smooth(landmarks_TN3)
    return DetectedVideo(frames_THW3, landmarks_TN3, track.found_T)


def filled(landmarks_TN3: np.ndarray, detected_T: np.ndarray) -> np.ndarray:
    """Landmarks of frames without a face, interpolated linearly between their neighbours'.

    Before the first detection and after the last they repeat it. With no face at all they stay as they are.
    """
    if detected_T.all() or not detected_T.any():
        return landmarks_TN3
    known = np.flatnonzero(detected_T)
    place_T = np.interp(np.arange(len(detected_T)), known, np.arange(len(known)))  # among the frames with a face
    below_T = np.floor(place_T).astype(int)
    weight_T11 = (place_T - below_T)[:, None, None]
    above_T = np.minimum(below_T + 1, len(known) - 1)
    known_KN3 = landmarks_TN3[known]
    return (known_KN3[below_T] * (1 - weight_T11) + known_KN3[above_T] * weight_T11).astype(landmarks_TN3.dtype)


def _all_detected(files: dict[str, Path], detector: Detector, frames: int) -> dict[str, DetectedVideo]:
    """Every row, read and detected. Raises RowFailed, naming all rows that are not usable, and as `detect` does."""
    videos, failures = {}, dict[str, Miss]()
    for name, path in files.items():
        try:
            videos[name] = _detected(name, path, detector, frames)
        except Miss as miss:
            failures[name] = miss
    if failures:
        first = next(iter(failures.values()))
        raise RowFailed(first.reason, "; ".join(map(str, failures.values())), list(failures), videos)
    return videos


def _detected(name: str, path: Path, detector: Detector, frames: int) -> DetectedVideo:
    video = detect(path, detector)
    if len(video.detected_T) != frames:
        raise Miss(OTHER_LENGTH, f"{name} has {len(video.detected_T)} frames, the clip {frames}")
    share = float(video.detected_T.mean())
    if share < LEAST_DETECTED:
        raise Miss(LOST, f"a face is detected in {100 * share:.0f} % of the frames of {name}")
    return video


def curves(truth: Truth, videos: Mapping[str, DetectedVideo]) -> dict[str, list[float]]:
    """Openings over time of the truth and of some rows, over all frames at the truth's mean head size, px."""
    openings = {}
    for name, video in videos.items():
        openings["truth"], openings[name] = lips.aligned(truth.landmarks_TN3, video.landmarks_TN3).openings()
    return {name: values.round(3).tolist() for name, values in openings.items()}

"""The rows of videos that somebody else's method wrote, and the real videos beside them, both through our codec."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eval.metrics import measure_videos, people
from eval.metrics.detection import LEAST_DETECTED
from eval.metrics.metric import Comparison, DetectedVideo, Evaluators, Miss, RowFailed, Truth
from eval.rows import features, saved
from eval.rows.one_crop import (
    LENGTH,
    LENGTH_FRAMES,
    LENGTH_SHARE,
    LONGEST_S,
    OTHER_LENGTH,
    Shown,
    fitted,
    predicted,
    read_real,
    read_speech,
    through_codec,
)
from eval.rows.pairs import MISSING, Pair
from eval.rows.videos import curves
from eval.score_file import FLOOR, ClipScore
from mytalk import atomic, media
from mytalk.face.landmarks import CROP_PX, FRAME_HZ

if TYPE_CHECKING:
    from mytalk.face.detector import Detector

REAL, PREDICTION = FLOOR, "prediction"
RULES = {  # as the protocol states them
    "rate": f"pictures nearest in time to i / {FRAME_HZ} s, whatever the file's rate",
    "length": f"the shared length, where lengths differ by at most {LENGTH_FRAMES} frame or "
    f"{100 * LENGTH_SHARE:.0f} %, else the clip is a miss ({OTHER_LENGTH}); with other audio the shared length, "
    f"whatever it is; at most the first {LONGEST_S} s",
    "size": f"the real video's crop of {CROP_PX} px, by its landmarks; a prediction is cropped at the same place of "
    "its picture, enlarged or not, or by its own landmarks where its face is elsewhere (note own_crop)",
    "faces": "the largest face, followed as long as it is seen (mytalk/face/track.py); no face, a face in fewer than "
    f"{100 * LEAST_DETECTED:.0f} % of the frames, or a jump to another face in the real video are misses",
    "files": "a file that is missing, cannot be read or breaks off is a miss, and so is one without its counterpart",
}


@dataclass(frozen=True)
class Bench:
    """All that scores a pair: where videos are saved, the method's name, which audio, evaluators, detector."""

    out: Path
    method: str
    cross_audio: bool
    evaluators: Evaluators
    detector: Detector


def score(bench: Bench, pair: Pair) -> ClipScore:
    """The metrics of the real video and of the prediction. Failing in one it is a miss in both. Raises OSError."""
    if pair.problem is not None:
        reason, message = pair.problem
        return ClipScore(pair.key, pair.person, reason=reason, message=message, failed=_failed(bench.method, reason))
    try:
        with tempfile.TemporaryDirectory(prefix=atomic.TEMPORARY, dir=bench.out) as folder:
            return _score(bench, pair, Path(folder))
    except Miss as error:
        failed = _failed(bench.method, error.reason)
        return ClipScore(pair.key, pair.person, reason=error.reason, message=str(error), failed=failed)


def _failed(method: str, reason: str) -> list[str]:
    """The method, where a miss is its fault: a prediction that is missing, of another length or cannot be used."""
    return [method] if reason in (MISSING, OTHER_LENGTH) or reason.startswith(PREDICTION) else []


@contextlib.contextmanager
def blamed(whose: str) -> Iterator[None]:
    """Misses raised inside are named after whose fault they are, what a file's content raises too."""
    try:
        yield
    except (Miss, media.MediaError) as error:
        if error.reason == OTHER_LENGTH:
            raise
        raise Miss(f"{whose}_{error.reason}", str(error)) from error


def _score(bench: Bench, pair: Pair, folder: Path) -> ClipScore:
    assert pair.real is not None, "pairs that lack a file have a problem"
    assert pair.pred is not None
    notes: list[str] = []
    with blamed("real"):
        real_THW3, shown = read_real(pair.real, bench.detector, notes)
        own_S = read_speech((None if bench.cross_audio else pair.speech) or pair.real, len(real_THW3))
    with blamed(PREDICTION):
        said_S = media.read_audio(pair.speech or pair.pred) if bench.cross_audio else own_S
        length = None if bench.cross_audio else len(real_THW3)
        file = folder / f"{bench.method}.mp4"
        video = predicted(pair.pred, shown, bench.detector, file, said_S, length, notes)
    with blamed("real"):
        real = through_codec(real_THW3, folder / f"{REAL}.mp4", bench.detector, own_S)
    frames = min(len(real_THW3), len(video.detected_T))
    if len(real_THW3) != len(video.detected_T):
        notes.append(LENGTH)
    truth = Truth(real_THW3[:frames], shown.landmarks_TN3[:frames], fitted(own_S, frames), shown.landmarks_TN3)
    videos = {REAL: real.first(frames), bench.method: video.first(frames)}
    said = replace(truth, audio_S=fitted(said_S, frames), original_S=truth.audio_S) if bench.cross_audio else truth
    truths = {REAL: truth, bench.method: said}
    rows = {name: Comparison(truths[name], video, bench.evaluators) for name, video in videos.items()}
    scores, omitted = measure_videos(rows, bench.cross_audio)
    features.save(bench.out, pair.key, rows)
    traits = {} if bench.cross_audio else people.of_rows(rows)
    done = ClipScore(pair.key, pair.person, methods=scores, notes=notes, omitted=omitted, traits=traits)
    if not pair.pictured:
        return done
    saved.write_lips(folder, {name: video.landmarks_TN3 for name, video in videos.items()})
    saved.save(folder, bench.out, pair.key)
    return replace(done, openings_px=curves(truth, {bench.method: video}))


def of_clip(
    methods: Mapping[str, Mapping[str, Path]], detector: Detector, key: str, truth: Truth, folder: Path
) -> dict[str, DetectedVideo]:
    """What methods of others wrote for a clip of the benchmark, by their names, through our codec into `folder`.

    `methods`: the files of each by name (`saved.name_of` a key). A row is as long as the clip, or a little shorter.
    Raises RowFailed naming every method without a usable video, OSError.
    """
    whole_23 = np.eye(2, 3)
    shown = Shown(truth.landmarks_TN3, whole_23, *truth.frames_THW3.shape[2:0:-1])
    videos, failed = dict[str, DetectedVideo](), dict[str, Miss]()
    for name, files in methods.items():
        try:
            if saved.name_of(key) not in files:
                raise Miss(MISSING, f"no video {saved.name_of(key)}")
            path, file, frames = files[saved.name_of(key)], folder / f"{name}.mp4", len(truth.landmarks_TN3)
            with blamed(PREDICTION):
                video = predicted(path, shown, detector, file, truth.audio_S, frames, [])
            videos[name] = video.first(frames)
        except Miss as error:
            failed[name] = error
    if failed:
        words = "; ".join(f"{name}: {error}" for name, error in failed.items())
        raise RowFailed(next(iter(failed.values())).reason, words, list(failed), videos)
    return videos

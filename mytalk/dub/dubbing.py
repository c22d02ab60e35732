"""Dubbing a video: two passes over it, with the generation of motion between them.

The first pass finds the face (mytalk/dub/first_pass.py). Then the motion of the lower face is generated from speech
(mytalk/dub/long_form.py). The second pass paints it frame by frame and blends it in (mytalk/dub/compositing.py).

Shape suffixes: F frames at the video's rate, T frames at 25 Hz, N landmarks (478), K noised landmarks,
S audio samples, 3 = (x, y, z) in px of the span's crop, 2 = (x, y) in the head's frame.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk import atomic, media
from mytalk.command import UserError
from mytalk.dub.first_pass import FirstPass, find_face_spans, frame_rate
from mytalk.dub.person import PersonReference, person_reference
from mytalk.dub.retiming import at_25_hz, at_source_rate, cut_or_pad, frames_at_25_hz, speech_of_span
from mytalk.face.landmarks import SAMPLE_HZ, without_mouth
from mytalk.progress import Progress

if TYPE_CHECKING:
    from mytalk.face.detector import Detector
    from mytalk.networks.appearance import Generator
    from mytalk.networks.motion import MotionModel

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
MARK = {"comment": f"The speech and the mouth movement in this video are synthetic, made with MyTalk. {SOURCE_TYPE}"}
DEFAULT_AUDIO_HZ = 48_000  # of the result, where AAC does not have the rate of the speech
FIXES = {
    "no_video": "name a video file",
    "no_audio": "name a file with sound",
}


@dataclass(frozen=True)
class Models:
    """The two networks, on one device."""

    motion: MotionModel
    appearance: Generator


def load_models(motion: Path, appearance: Path, device: str = "cpu") -> Models:
    """The networks of two model folders. Raises UserError as `weights.load` does."""
    from mytalk.networks import appearance as appearance_network
    from mytalk.networks import motion as motion_network

    return Models(motion_network.load_model(motion, device), appearance_network.load_model(appearance, device))


def dub(
    video: Path,
    speech: Path,
    out: Path,
    models: Models,
    detector: Detector,
    reference: Path | None = None,
    seed: int = 0,
    steps: int = 30,
) -> FirstPass:
    """Write `out`: `video` with its person speaking the words of `speech`. Returns the faces found in `video`.

    Shows progress. Raises UserError for whatever is wrong with the files, OSError for the machine's errors; then
    `out` is not touched.
    """
    check_paths(video, speech, out, reference)
    with _as_user_errors():
        heard = media.Notes()
        speech_S = media.read_audio(speech, notes=heard, whole=True)
        _say(speech, heard)
        speech_hz = media.audio_hz(speech)
        faces = _find_face_spans("find the face", video, detector)
        _warn_if_cut(speech, len(speech_S) / SAMPLE_HZ, video, float(faces.frames / faces.fps))
        shown = faces if reference is None else _find_face_spans("read the reference", reference, detector)
        person = person_reference(shown, _own_audio(shown.video))
        progress = Progress("generate the motion", _windows(faces, models.motion.window_frames), "windows")
        landmarks = write_motion(faces, speech_S, models, person, seed, steps, progress.step)
        progress.finish()
        progress = Progress("paint", faces.frames, "frames")
        rate = speech_hz if speech_hz in media.AAC_HZ else DEFAULT_AUDIO_HZ
        output_S = media.read_audio(speech, rate, media.Notes(), whole=True)
        render(faces, landmarks, models, person, output_S, out, progress.step, rate)
        progress.finish()
    return faces


def write_motion(
    faces: FirstPass,
    speech_S: np.ndarray,
    models: Models,
    person: PersonReference,
    seed: int,
    steps: int,
    on_window: Callable[[], None] = lambda: None,
) -> list[np.ndarray]:
    """Landmarks with the lower face generated from speech (16 kHz), one (F, 478, 3) float32 array a span.

    The model works at 25 Hz and gets the clip without its lower face. Its motion is resampled to the times of the
    frames in the head's frame, where the head stands still, so the head moves as it did. At 25 fps this is
    `long_form.generate`.
    """
    from mytalk.dub import long_form
    from mytalk.networks.motion import SourceStretch

    source = SourceStretch(person.landmarks_UN3, person.audio_S)
    head = long_form.person_head(source.landmarks_UN3)
    landmarks = []
    for span in faces.spans:
        clip_TN3 = without_mouth(at_25_hz(span, faces.fps))
        span_speech_S = speech_of_span(span, faces.fps, speech_S)
        generated_TN3 = long_form.generate(models.motion, clip_TN3, source, span_speech_S, seed, steps, on_window)
        lower_TK2 = long_form.lower_face(generated_TN3, head)
        lower_FK2 = at_source_rate(lower_TK2, len(span.landmarks_FN3), faces.fps)
        landmarks.append(long_form.with_lower_face(span.landmarks_FN3, lower_FK2, head))
    return landmarks


def render(
    faces: FirstPass,
    landmarks: list[np.ndarray],
    models: Models,
    person: PersonReference,
    speech_S: np.ndarray,
    out: Path,
    on_frame: Callable[[], None] = lambda: None,
    rate: int = SAMPLE_HZ,
) -> None:
    """Second pass: paint the landmarks of every span into its frames, add the speech, mark, write `out` atomically.

    `speech_S` is at `rate` Hz (one of media.AAC_HZ) and is cut or padded with silence to the video's length.
    Memory is constant in the video's length. Raises MediaError and OSError.
    """
    from mytalk.dub import compositing
    from mytalk.face import region
    from mytalk.networks import appearance

    painter = appearance.Painter(models.appearance, person.frames_RHW3, person.frame_landmarks_RN3)
    regions = [region.regions(span.landmarks_FN3) for span in faces.spans]
    frames = compositing.dubbed_frames(faces, landmarks, regions, painter, on_frame)
    audio_S = cut_or_pad(speech_S, round(faces.frames / faces.fps * rate))
    media.write_video(out, frames, faces.fps, audio_S, rate, MARK, media.probe(faces.video).colour)


def check_paths(video: Path, speech: Path, out: Path, reference: Path | None = None) -> None:
    """Raise UserError where OUT cannot be written: no mp4, a long name, one of the files read, a file for a folder."""
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file in it")
    if len(os.fsencode(out.name)) > atomic.LONGEST_NAME_BYTES:
        raise UserError(f"{out} has a name of more than {atomic.LONGEST_NAME_BYTES} bytes; name a shorter OUT")
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out} does not end in .mp4, the format of the result; name it {out.with_suffix('.mp4').name}")
    for read in (video, speech, reference):
        if read is not None and _same_file(out, read):
            raise UserError(f"{out} is read and cannot be written as well; name another OUT")
    for folder in out.absolute().parents:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file and cannot hold {out}; name another OUT")


def _same_file(a: Path, b: Path) -> bool:
    """Whether two paths are one file, through links too, also where neither exists yet."""
    return a.resolve() == b.resolve() or (a.exists() and b.exists() and a.samefile(b))


@contextlib.contextmanager
def _as_user_errors() -> Iterator[None]:
    """Turn MediaError into UserError with the fix."""
    try:
        yield
    except media.MediaError as error:
        fix = FIXES.get(error.reason, "copy the file again, or convert it with: ffmpeg -i FILE NEW.mp4")
        raise UserError(f"{error}; {fix}") from error


def _find_face_spans(name: str, video: Path, detector: Detector) -> FirstPass:
    """`find_face_spans` with progress, and what is noticed; the total of frames is estimated from the header."""
    progress = Progress(name, round(media.probe(video).duration_s * float(frame_rate(video))), "frames")
    notes = media.Notes()
    faces = find_face_spans(video, detector, progress.step, notes)
    progress.finish()
    _say(video, notes)
    return faces


def _own_audio(video: Path) -> np.ndarray:
    """A video's own sound at 16 kHz; empty, with a message, where it has no audio."""
    notes = media.Notes()
    try:
        audio_S = media.read_audio(video, notes=notes)
    except media.MediaError as error:
        if error.reason != "no_audio":
            raise
        print(f"{video} has no sound: the person's way of speaking is taken from the picture alone")
        return np.zeros(0, np.float32)
    for line in notes.lines:
        print(f"{video}: {line}")
    return audio_S


def _say(path: Path, notes: media.Notes) -> None:
    """What was noticed while a file was read, a line each."""
    if notes.cut is not None:
        print(f"{notes.cut}; what comes before is used")
    for line in notes.lines:
        print(f"{path}: {line}")


def _warn_if_cut(speech: Path, speech_s: float, video: Path, video_s: float) -> None:
    if speech_s > video_s + 0.05:
        print(f"{speech} lasts {speech_s:.2f} s and {video} {video_s:.2f} s: the end of the speech is cut")


def _windows(faces: FirstPass, window_frames: int) -> int:
    from mytalk.dub.long_form import windows

    return sum(len(windows(frames_at_25_hz(span, faces.fps), window_frames)) for span in faces.spans)

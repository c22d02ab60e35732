"""What is read before anything is generated: the faces that are dubbed, those of references, a video's own sound.

What is noticed in the files is printed, a line each.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk import media
from mytalk.command import UserError
from mytalk.dub import contact_sheet
from mytalk.dub.faces import MAIN_FACE, Choice, Face, chosen_of, joined
from mytalk.dub.first_pass import FirstPass, follow_faces, frame_rate, of_face
from mytalk.dub.tracks import Followed
from mytalk.progress import Progress

if TYPE_CHECKING:
    from mytalk.face.detector import Detector

SHOWN_ALONE = "the person's way of speaking is taken from the picture alone"
UNKNOWN_SILENCE = (
    "this motion model has seen no such person in training, and may hold the mouth too wide or too narrow; name a "
    "video with sound as --reference, or a model that was trained with source_sound_dropout"
)


def chosen_faces(video: Path, detector: Detector, wanted: Choice, sheet: Path | None, out: Path) -> list[FirstPass]:
    """The spans of every face that is to be dubbed. Raises UserError where it must be asked which."""
    followed, fps = _follow_faces("find the faces", video, detector)
    people = joined(followed.tracks)
    if sheet is not None:
        contact_sheet.write(sheet, people, fps)
    chosen = chosen_of(people, wanted)
    if not chosen:
        sheet = sheet or contact_sheet.beside(out)
        contact_sheet.write(sheet, people, fps)
        raise UserError(
            f"{video} shows {len(people)} faces, two of them about as large; see {sheet} and choose with "
            f"--face track:{people[0].number} or --face track:{people[1].number} (or --face largest, or --face all)"
        )
    passes = first_passes(video, fps, followed, chosen)
    if len(people) > 1:
        numbers = ", ".join(map(str, passes))
        print(f"{video} shows {len(people)} faces: dubbed is track {numbers}; the others stay as they are")
    return list(passes.values())


def first_passes(video: Path, fps: Fraction, followed: Followed, chosen: list[Face]) -> dict[int, FirstPass]:
    """Track -> the first pass of its face, of each that stays long enough; the others are named.

    Raises UserError where none does.
    """
    passes: dict[int, FirstPass] = {}
    failures: dict[int, UserError] = {}
    for face in chosen:
        try:
            passes[face.number] = of_face(video, fps, followed, face)
        except UserError as error:
            failures[face.number] = error
    if not passes:
        raise next(iter(failures.values()))
    for number, failure in failures.items():
        print(f"track {number} is not dubbed: {failure}")
    return passes


def reference_faces(video: Path, detector: Detector) -> FirstPass:
    """The spans of the main face of a reference. Raises UserError where it is not clear which that is."""
    followed, fps = _follow_faces("read the reference", video, detector)
    chosen = chosen_of(joined(followed.tracks), MAIN_FACE)
    if not chosen:
        raise UserError(f"{video} shows several faces about as large; name a reference that shows one person")
    return of_face(video, fps, followed, chosen[0])


def _follow_faces(name: str, video: Path, detector: Detector) -> tuple[Followed, Fraction]:
    """`follow_faces` with progress, and what is noticed; the total of frames is estimated from the header."""
    progress = Progress(name, round(media.probe(video).duration_s * float(frame_rate(video))), "frames")
    notes = media.Notes()
    followed, fps = follow_faces(video, detector, progress.step, notes)
    progress.finish()
    say(video, notes)
    return followed, fps


def own_audio(video: Path, silence_is_known: bool) -> np.ndarray:
    """A video's own sound at 16 kHz; empty, with a message, where it has no audio."""
    notes = media.Notes()
    try:
        audio_S = media.read_audio(video, notes=notes)
    except media.MediaError as error:
        if error.reason != "no_audio":
            raise
        print(f"{video} has no sound: {SHOWN_ALONE if silence_is_known else UNKNOWN_SILENCE}")
        return np.zeros(0, np.float32)
    for line in notes.lines:
        print(f"{video}: {line}")
    return audio_S


def warn_if_cut(speech: Path, speech_s: float, video: Path, video_s: float) -> None:
    """That the end of the speech is cut, where it lasts longer than the video."""
    if speech_s > video_s + 0.05:
        print(f"{speech} lasts {speech_s:.2f} s and {video} {video_s:.2f} s: the end of the speech is cut")


def say_turned(video: Path, found: list[FirstPass]) -> None:
    """How many frames are passed through because the face is turned away in them, if any."""
    from mytalk.face import region

    of_spans = [region.strengths(span.landmarks_FN3, float(one.fps)) for one in found for span in one.spans]
    passed, whole = sum(int((strength_F == 0).sum()) for strength_F in of_spans), sum(map(len, of_spans))
    if passed:
        print(
            f"{video}: in {passed} of {whole} frames the face is turned by more than {region.PASSED_DEGREES:.0f} "
            "degrees; they keep their own mouth"
        )


def say(path: Path, notes: media.Notes) -> None:
    """What was noticed while a file was read, a line each."""
    if notes.cut is not None:
        print(f"{notes.cut}; what comes before is used")
    for line in notes.lines:
        print(f"{path}: {line}")

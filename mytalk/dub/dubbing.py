"""Dubbing a video: two passes over it, with the generation of motion between them.

The first pass finds the face (mytalk/dub/first_pass.py). Then the motion of the lower face is generated from speech
(mytalk/dub/long_form.py). The second pass paints it frame by frame and blends it in (mytalk/dub/compositing.py).

Shape suffixes: F frames at the video's rate, T frames at 25 Hz, N landmarks (478), K noised landmarks,
S audio samples, 3 = (x, y, z) in px of the span's crop, 2 = (x, y) in the head's frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk import machine, media
from mytalk.ahead import ahead
from mytalk.command import UserError
from mytalk.control import motion_file
from mytalk.control.control import Control
from mytalk.control.promises import Promises, mouth_of
from mytalk.dub import inputs
from mytalk.dub.checks import as_user_errors, check
from mytalk.dub.faces import MAIN_FACE, Choice
from mytalk.dub.first_pass import FaceSpan, FirstPass
from mytalk.dub.person import PersonReference, Sources, person_reference
from mytalk.dub.retiming import at_25_hz, at_source_rate, cut_or_pad, frames_at_25_hz, speech_of_span
from mytalk.face import crop
from mytalk.face.landmarks import CROP_PX, NOISED, SAMPLE_HZ, without_mouth
from mytalk.progress import Progress

if TYPE_CHECKING:
    from mytalk.dub.hands import Hands
    from mytalk.face.detector import Detector
    from mytalk.networks.appearance.generator import Generator
    from mytalk.networks.motion.generation import SourceStretch
    from mytalk.networks.motion.network import MotionModel

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
MARK = {"comment": f"The speech and the mouth movement in this video are synthetic, made with MyTalk. {SOURCE_TYPE}"}
AS_WRITTEN = Control()
ITSELF = Sources()
DEFAULT_AUDIO_HZ = 48_000  # of the result, where AAC does not have the rate of the speech


@dataclass(frozen=True)
class Models:
    """The two networks, on one device; `others` are further painters, for faces of another size."""

    motion: MotionModel
    appearance: Generator
    others: tuple[Generator, ...] = ()

    def painter_of(self, faces: FirstPass) -> Generator:
        """The painter whose size is nearest, by ratio, to the side of the person's crops in the source."""
        if not self.others:
            return self.appearance
        scales = [crop.scale(crop_23) for span in faces.spans for crop_23 in span.crops_F23]
        side_px = CROP_PX / float(np.median(scales))
        return min((self.appearance, *self.others), key=lambda one: abs(math.log(side_px / one.config.size_px)))


@dataclass(frozen=True)
class Dub:
    """One person of a video: where the face is, the landmarks to paint in each span, and how the person looks."""

    faces: FirstPass
    landmarks: list[np.ndarray]
    person: PersonReference


def load_models(
    motion: Path,
    appearance: Path,
    device: str = "cpu",
    speech_encoder: str | None = None,
    others: Sequence[Path] = (),
) -> Models:
    """The networks of two model folders, and of further painters'.

    Raises UserError as `weights.load` and `encoder.give` do.
    """
    from mytalk.networks.appearance import files as appearance_files
    from mytalk.networks.motion import files as motion_files
    from mytalk.speech import encoder

    model = motion_files.load_model(motion, device)
    encoder.give(model, "motion", speech_encoder, device)
    first, *further = (appearance_files.load_model(folder, device) for folder in (appearance, *others))
    return Models(model, first, tuple(further))


def dub(
    video: Path,
    speech: Path,
    out: Path,
    models: Models,
    detector: Detector,
    sources: Sources = ITSELF,
    seed: int = 0,
    steps: int = 30,
    face: Choice = MAIN_FACE,
    sheet: Path | None = None,
    control: Control = AS_WRITTEN,
    hands: Hands | None = None,
) -> list[FirstPass]:
    """Write `out`: `video` with the person of `face` speaking the words of `speech`. Returns what was dubbed of each.

    `sheet` is where a contact sheet of the faces is written (None: beside `out`, if it must be asked which one).
    `hands` finds those that are not painted over (None: all are).
    Shows progress. Raises UserError for whatever is wrong with the files, OSError for the machine's errors; then
    `out` is not touched.
    """
    check(video, speech, out, sources.paths(), sheet)
    with as_user_errors():
        how = (detector, sources, seed, steps, face, sheet, control)
        dubs = generated(video, speech, out, models.motion, *how, models.painter_of)
        inputs.say_turned(video, [dub.faces for dub in dubs])
        first, speech_hz = dubs[0].faces, media.audio_hz(speech)
        progress = Progress("paint", first.frames, "frames")
        rate = speech_hz if speech_hz in media.AAC_HZ else DEFAULT_AUDIO_HZ
        output_CS, layout = media.read_channels(speech, rate, media.Notes())
        render(dubs, models, output_CS, out, progress.step, rate, layout, hands)
        progress.finish()
    if hands is not None and hands.kept_frames:
        print(f"{video}: in {hands.kept_frames} frames a hand is before the mouth; it is not painted over")
    return [dub.faces for dub in dubs]


def generated(
    video: Path,
    speech: Path,
    out: Path,
    model: MotionModel,
    detector: Detector,
    sources: Sources,
    seed: int,
    steps: int,
    face: Choice,
    sheet: Path | None,
    control: Control,
    painter_of: Callable[[FirstPass], Generator] | None = None,
) -> list[Dub]:
    """All of `dub` before anything is painted: faces, and the motion written for each. Raises MediaError too.

    `painter_of` says which painter a person's references are for (None: they are crops of 256 px).
    """
    if sources.paths() and face.kind == "all":
        raise UserError("a reference shows one person and --face all means several; leave one of them out")
    heard = media.Notes()
    speech_S = media.read_audio(speech, notes=heard, whole=True)
    inputs.say(speech, heard)
    found = inputs.chosen_faces(video, detector, face, sheet, out)
    _check_keyframes(control, found)
    inputs.warn_if_cut(speech, len(speech_S) / SAMPLE_HZ, video, float(found[0].frames / found[0].fps))
    shown = {path: inputs.reference_faces(path, detector) for path in sources.paths()}
    own_S = inputs.own_audio(sources.motion or video, model.knows_silent_sources)
    dubs = []
    progress = Progress("generate the motion", _windows(found, model.window_frames), "windows")
    for one in found:
        speaking, looking = ((one if path is None else shown[path]) for path in (sources.motion, sources.appearance))
        side_px = CROP_PX if painter_of is None else painter_of(one).config.side_px
        person = person_reference(speaking, own_S, side_px)
        if looking is not speaking:
            looks = person_reference(looking, np.zeros(0, np.float32), side_px)
            person = replace(person, frames_RHW3=looks.frames_RHW3, frame_landmarks_RN3=looks.frame_landmarks_RN3)
        dubs.append(Dub(one, write_motion(one, speech_S, model, person, seed, steps, progress.step, control), person))
    progress.finish()
    return dubs


def write_motion(
    faces: FirstPass,
    speech_S: np.ndarray,
    model: MotionModel,
    person: PersonReference,
    seed: int,
    steps: int,
    on_window: Callable[[], None] = lambda: None,
    control: Control = AS_WRITTEN,
) -> list[np.ndarray]:
    """Landmarks with the lower face generated from speech (16 kHz), one (F, 478, 3) float32 array a span.

    The model works at 25 Hz and gets the clip without its lower face. Its motion is resampled to the times of the
    frames in the head's frame, where the head stands still, so the head moves as it did. At 25 fps this is
    `long_form.generate`. What `control` promises holds in every frame of the video.
    """
    from mytalk.dub import long_form
    from mytalk.networks.motion.generation import SourceStretch

    def hear(audio_S: np.ndarray) -> np.ndarray | None:
        return None if model.hear is None else model.hear(audio_S)

    source = SourceStretch(person.landmarks_UN3, person.audio_S, hear(person.audio_S))
    head = long_form.person_head(source.landmarks_UN3)
    landmarks = []
    for span in faces.spans:
        clip_TN3 = without_mouth(at_25_hz(span, faces.fps))
        span_speech_S = speech_of_span(span, faces.fps, speech_S)
        at_25, at_source = _promises(control, span, faces.fps, source, len(clip_TN3))
        given = (model, clip_TN3, source, span_speech_S, seed, steps, on_window, control.amplitude, at_25)
        generated_TN3 = long_form.generate(*given, hear(span_speech_S))
        lower_TK2 = long_form.lower_face(generated_TN3, head)
        lower_FK2 = at_source_rate(lower_TK2, len(span.landmarks_FN3), faces.fps)
        if at_source is not None:
            lower_FK2 = at_source.hold(lower_FK2)
        landmarks.append(long_form.with_lower_face(span.landmarks_FN3, lower_FK2, head))
    return landmarks


def _promises(
    control: Control, span: FaceSpan, fps: Fraction, source: SourceStretch, frames_at_25: int
) -> tuple[Promises | None, Promises | None]:
    """Those of a span's frames at 25 Hz and of its own."""
    from mytalk.dub import long_form

    if not control.promises_something:
        return None, None
    head = long_form.person_head(source.landmarks_UN3)
    mouth = mouth_of(long_form.lower_face(source.landmarks_UN3, head))
    frame_M, keyframes_MK2 = np.zeros(0, np.int64), np.zeros((0, len(NOISED), 2))
    if control.keyframes is not None:
        edited = control.keyframes.inside(span.start, span.stop)
        frame_M = edited.frames_M - span.start
        posed_MN3 = span.landmarks_FN3[frame_M].copy()  # a keyframe's head is the frame's
        posed_MN3[:, NOISED] = crop.apply_each(edited.landmarks_MN3, span.crops_F23[frame_M])[:, NOISED]
        keyframes_MK2 = long_form.lower_face(posed_MN3, head)
    wanted = (frame_M, keyframes_MK2)
    return (
        control.promises_at_25_hz(mouth, span.start, frames_at_25, fps, *wanted),
        control.promises(mouth, span.start, len(span.landmarks_FN3), fps, *wanted),
    )


def _check_keyframes(control: Control, found: list[FirstPass]) -> None:
    """Raise UserError for keyframes where nothing is dubbed."""
    if control.keyframes is None:
        return
    if len(found) > 1:
        raise UserError("--keyframes are of one face; choose it with --face")
    there = {frame for span in found[0].spans for frame in range(span.start, span.stop)}
    lost = [frame for frame in control.keyframes.frames_M.tolist() if frame not in there]
    if lost:
        raise UserError(f"--keyframes: in frame {lost[0]} no face is dubbed ({len(lost)} such); take it out")
    motion_file.check_rate(control.keyframes, found[0].fps)


def render(
    dubs: list[Dub],
    models: Models,
    speech_CS: np.ndarray,
    out: Path,
    on_frame: Callable[[], None] = lambda: None,
    rate: int = SAMPLE_HZ,
    layout: str = "mono",
    hands: Hands | None = None,
) -> None:
    """Second pass: paint every span of every person into its frames, add the speech, mark, write `out` atomically.

    Decoding, painting and encoding go on at once. `speech_CS`, (S,) or of the channels of `layout`, is at `rate` Hz
    (one of media.AAC_HZ) and is cut or padded with silence to the video's length. Pictures in memory are a few a
    person, whatever the video's length. Raises MediaError and OSError.
    """
    from mytalk.dub import compositing
    from mytalk.face import region
    from mytalk.networks.appearance.painter import Painter

    layers = []
    for dub in dubs:
        generator = models.painter_of(dub.faces)
        painter = Painter(generator, dub.person.frames_RHW3, dub.person.frame_landmarks_RN3)
        regions = [region.regions(span.landmarks_FN3) for span in dub.faces.spans]
        strengths = [region.strengths(span.landmarks_FN3, float(dub.faces.fps)) for span in dub.faces.spans]
        layers.append(compositing.Layer(dub.faces.spans, dub.landmarks, regions, strengths, painter))
    first = dubs[0].faces
    frames = ahead(compositing.dubbed_frames(first, layers, on_frame, hands), compositing.BATCH_FRAMES)
    audio_CS = cut_or_pad(speech_CS, round(first.frames / first.fps * rate))
    colour = media.probe(first.video).colour
    with machine.most_threads(1):  # what paints has a thread for each core already
        media.write_video(out, frames, first.fps, audio_CS, rate, MARK, colour, layout)


def _windows(found: list[FirstPass], window_frames: int) -> int:
    from mytalk.dub.long_form import windows

    spans = [(span, one.fps) for one in found for span in one.spans]
    return sum(len(windows(frames_at_25_hz(span, fps), window_frames)) for span, fps in spans)

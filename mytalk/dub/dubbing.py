"""`python -m mytalk dub`: let the person in a video say what is in a sound file.

Two passes over the video. The first finds the face (mytalk/dub/first_pass.py); then its lower face is written from
speech (mytalk/dub/long_form.py); the second paints it, frame by frame, and puts it back (mytalk/dub/compositing.py).

Shape suffixes: F source frames, T frames at 25 Hz, N landmarks (478), K noised landmarks, R rigid landmarks,
S audio samples, 2 = (x, y) in px of the span's crop.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mytalk import command, media
from mytalk.command import UserError
from mytalk.dub.first_pass import (
    Source,
    Study,
    at_25_hz,
    at_source_rate,
    fitted,
    frame_rate,
    frames_at_25_hz,
    nothing,
    source_of,
    speech_of,
    study,
)
from mytalk.face import detector
from mytalk.face.landmarks import SAMPLE_HZ, without_mouth
from mytalk.progress import Progress, clock

if TYPE_CHECKING:
    from mytalk.face.detector import Detector
    from mytalk.networks.appearance import Generator
    from mytalk.networks.motion import MotionModel

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
MARK = {"comment": f"The speech and the mouth movement in this video are synthetic, made with MyTalk. {SOURCE_TYPE}"}
USUAL_HZ = 48_000  # of the sound in the result, where AAC does not have the rate of the speech
FIXES = {
    "no_video": "name a video file",
    "no_audio": "name a file with sound",
}


@dataclass(frozen=True)
class Models:
    """The two networks, on one device."""

    motion: MotionModel
    appearance: Generator


def arguments() -> argparse.ArgumentParser:
    """The command line of `dub`."""
    made = command.parser(
        "python -m mytalk dub",
        "Let the person in VIDEO say what is in SPEECH: the lower face is written from the speech and painted into\n"
        "every frame with a face; other frames pass through. Size, frame rate and length are the video's. The\n"
        "result is marked as synthetic in its metadata. Dub only people who have agreed to it.",
        "python -m mytalk dub actor.mp4 speech.wav -o dubbed.mp4 --motion runs/demo/motion/model "
        "--appearance runs/demo/appearance/model",
    )
    made.add_argument("video", type=Path, metavar="VIDEO", help="a video that shows one person's face")
    made.add_argument("speech", type=Path, metavar="SPEECH", help="any sound or video file with the speech")
    made.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the mp4 to write, or to replace")
    made.add_argument("--motion", type=Path, required=True, metavar="FOLDER", help="model of train motion")
    made.add_argument("--appearance", type=Path, required=True, metavar="FOLDER", help="model of train appearance")
    made.add_argument(
        "--reference",
        type=Path,
        metavar="VIDEO2",
        help="a video of the person that shows how they speak and look (default: VIDEO itself)",
    )
    made.add_argument("--seed", type=int, default=0, help="another seed, another way to say it (default: %(default)s)")
    made.add_argument("--steps", type=int, default=30, help="steps of the sampler (default: %(default)s)")
    detector.add_option(made)
    return made


def run(args: argparse.Namespace) -> int:
    """Dub as the command line asks, and say what was done."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped like Ctrl-C: nothing unfinished is left
    try:
        return _run(args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written; the same command starts anew") from None


def _run(args: argparse.Namespace) -> int:
    began_s = time.monotonic()
    if args.steps < 1 or args.seed < 0:
        raise UserError(f"--steps {args.steps} --seed {args.seed}: steps must be 1 or more, the seed 0 or more")
    refuse_paths(args.video, args.speech, args.out, args.reference)
    import torch

    models = load_models(args.motion, args.appearance, "cuda" if torch.cuda.is_available() else "cpu")
    face_detector = detector.load(args.detector)
    made = dub(args.video, args.speech, args.out, models, face_detector, args.reference, args.seed, args.steps)
    dubbed = sum(span.stop - span.start for span in made.spans)
    took = clock(time.monotonic() - began_s)
    print(
        f"{args.out}: {dubbed} frames dubbed, {made.frames - dubbed} without a face passed through; "
        f"marked as synthetic in its metadata; took {took}"
    )
    return command.EXIT_DONE


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
) -> Study:
    """The whole of it: `out` is `video`, its person saying `speech`. Returns what was found in the video.

    Raises UserError for whatever is wrong with the files, OSError for the machine's errors; then `out` is not
    touched.
    """
    refuse_paths(video, speech, out, reference)
    with _told_to_the_user():
        speech_S = media.read_audio(speech)
        own_hz = media.audio_hz(speech)
        found = _studied("find the face", video, detector)
        _say_if_cut(speech, len(speech_S) / SAMPLE_HZ, video, float(found.frames / found.fps))
        shown = found if reference is None else _studied("study the reference", reference, detector)
        source = source_of(shown, _sound_of(shown.video))
        progress = Progress("write the motion", _windows(found, models.motion.window_frames), "windows")
        landmarks = written(found, speech_S, models, source, seed, steps, progress.step)
        progress.finish()
        progress = Progress("paint", found.frames, "frames")
        rate = own_hz if own_hz in media.AAC_HZ else USUAL_HZ
        render(found, landmarks, models, source, media.read_audio(speech, rate), out, progress.step, rate)
        progress.finish()
    return found


def written(
    found: Study,
    speech_S: np.ndarray,
    models: Models,
    source: Source,
    seed: int,
    steps: int,
    on_window: Callable[[], None] = nothing,
) -> list[np.ndarray]:
    """Landmarks with the lower face written from speech (16 kHz), one (F, 478, 2) float32 array a span.

    The model works at 25 Hz and gets the clip without its lower face. What it writes is brought to the frames'
    own times where the head stands still, so that the head moves as it did. At 25 fps this is `long.generate`.
    """
    from mytalk.dub import long_form

    rigid_R2 = long_form.rigid_shape(source.landmarks_UN2)
    out = []
    for span in found.spans:
        clip_TN2 = without_mouth(at_25_hz(span, found.fps))
        sound_S = speech_of(span, found.fps, speech_S)
        made_TN2 = long_form.generate(
            models.motion, clip_TN2, source.landmarks_UN2, sound_S, seed, steps, source.audio_S, on_window
        )
        lower_TK2 = long_form.lower_face(made_TN2, rigid_R2)
        lower_FK2 = at_source_rate(lower_TK2, len(span.landmarks_FN2), found.fps)
        out.append(long_form.with_lower_face(span.landmarks_FN2, lower_FK2, rigid_R2))
    return out


def render(
    found: Study,
    landmarks: list[np.ndarray],
    models: Models,
    source: Source,
    speech_S: np.ndarray,
    out: Path,
    on_frame: Callable[[], None] = nothing,
    rate: int = SAMPLE_HZ,
) -> None:
    """Second pass: paint the landmarks of every span into its frames, add the speech, mark, write `out` atomically.

    `speech_S` is at `rate` Hz (one of media.AAC_HZ) and is cut or padded with silence to the video's length.
    Memory is constant in the video's length. Raises MediaError and OSError.
    """
    from mytalk.dub import compositing
    from mytalk.networks import appearance

    painter = appearance.Painter(models.appearance, source.frames_RHW3, source.frame_landmarks_RN2)
    regions = [appearance.regions(span.landmarks_FN2) for span in found.spans]
    frames = compositing.dubbed(found, landmarks, regions, painter, on_frame)
    sound_S = fitted(speech_S, round(found.frames / found.fps * rate))
    media.write_video(out, frames, found.fps, sound_S, rate, MARK)


# What is asked -----------------------------------------------------------------------------------------


def refuse_paths(video: Path, speech: Path, out: Path, reference: Path | None = None) -> None:
    """Raise UserError where OUT is no mp4, is one of the files that are read, or can have no folder."""
    if out.is_dir():
        raise UserError(f"{out} is a folder; name a file in it")
    if out.suffix.lower() != ".mp4":
        raise UserError(f"{out} does not end in .mp4, which is what is written; name it {out.with_suffix('.mp4').name}")
    for read in (video, speech, reference):
        if read is not None and _same(out, read):
            raise UserError(f"{out} is read and cannot be written as well; name another OUT")
    for folder in out.absolute().parents:
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, so {out} can have no folder there; name another OUT")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, through links too, be they there already or not."""
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


@contextlib.contextmanager
def _told_to_the_user() -> Iterator[None]:
    """Turn what is wrong with a file into one line with the fix."""
    try:
        yield
    except media.MediaError as error:
        fix = FIXES.get(error.reason, "copy the file again, or convert it with: ffmpeg -i FILE NEW.mp4")
        raise UserError(f"{error}; {fix}") from error


def _studied(name: str, video: Path, detector: Detector) -> Study:
    """`study` with progress; how many frames there are is a guess from the header."""
    progress = Progress(name, round(media.probe(video).duration_s * float(frame_rate(video))), "frames")
    found = study(video, detector, progress.step)
    progress.finish()
    return found


def _sound_of(video: Path) -> np.ndarray:
    """A video's own sound at 16 kHz; none, said so, where it has no audio."""
    try:
        return media.read_audio(video)
    except media.MediaError as error:
        if error.reason != "no_audio":
            raise
        print(f"{video} has no sound: the person's way of speaking is taken from the picture alone")
        return np.zeros(0, np.float32)


def _say_if_cut(speech: Path, speech_s: float, video: Path, video_s: float) -> None:
    if speech_s > video_s + 0.05:
        print(f"{speech} lasts {speech_s:.2f} s and {video} {video_s:.2f} s: the end of the speech is cut")


def _windows(found: Study, window_frames: int) -> int:
    from mytalk.dub.long_form import windows

    return sum(len(windows(frames_at_25_hz(span, found.fps), window_frames)) for span in found.spans)

"""`python -m mytalk motion`: write the landmarks that `dub` would paint, as a file to look at and to edit.

Shape suffixes: F frames, N landmarks (478), H height, W width, 3 = RGB, or (x, y, z) px of the picture.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mytalk import command
from mytalk.command import UserError
from mytalk.control import motion_file
from mytalk.control.motion_file import Keyframes
from mytalk.dub.checks import as_user_errors, check
from mytalk.dub.commands import options
from mytalk.dub.dubbing import MARK, Dub, generated
from mytalk.dub.person import Sources
from mytalk.face import crop, detector
from mytalk.face.landmarks import INNER_LIP, NOISED, OUTER_LIP, SAMPLE_HZ
from mytalk.progress import Progress

KEPT, WRITTEN = (90, 200, 90), (250, 200, 40)  # colours of the points: clean side, lower face


def arguments() -> argparse.ArgumentParser:
    """The command line of `motion`."""
    parser = command.parser(
        "python -m mytalk motion",
        "Write the landmarks that dub would paint, without painting: an npz with the frames that show the face and\n"
        "their landmarks in px of the picture. Edit some, and give them to dub --keyframes.",
        "python -m mytalk motion actor.mp4 speech.wav -o motion.npz --overlay motion.mp4 "
        "--motion runs/demo/motion/model",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the npz to write or replace")
    parser.add_argument("--overlay", type=Path, metavar="MP4", help="also write VIDEO with the landmarks drawn over it")
    options.add(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Write what the command line asks for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options.check(args)
    sources = Sources(motion=args.motion_source)
    if args.face.kind == "all":
        raise UserError("--face all: a motion file holds one face; choose one")
    check(args.video, args.speech, args.out, sources.paths(), args.sheet, suffix=".npz")
    if args.overlay is not None:
        check(args.video, args.speech, args.overlay, sources.paths())
    with as_user_errors():
        control = options.control(args)
        import torch

        from mytalk.networks.motion.files import load_model
        from mytalk.speech import encoder

        device = "cuda" if torch.cuda.is_available() else "cpu"
        model = load_model(args.motion, device)
        encoder.give(model, "motion", args.speech_encoder, device)
        model.guide(args.guidance, args.person_guidance)
        (one,) = generated(
            args.video,
            args.speech,
            args.out,
            model,
            detector.load(args.detector),
            sources,
            args.seed,
            args.steps,
            args.face,
            args.sheet,
            control,
        )
        keyframes = of_video(one)
        motion_file.write(args.out, keyframes)
        if args.overlay is not None:
            write_overlay(one, keyframes, args.speech, args.overlay)
    shown = len(keyframes.frames_M)
    print(f"{args.out}: landmarks of {shown} frames; {one.faces.frames - shown} frames show no face")
    return command.EXIT_DONE


def of_video(one: Dub) -> Keyframes:
    """All landmarks of a dub in px of the video's picture."""
    spans = one.faces.spans
    frames_F = [np.arange(span.start, span.stop) for span in spans]
    in_picture = [
        crop.apply_each(landmarks_FN3, np.stack([crop.invert(crop_23) for crop_23 in span.crops_F23]))
        for span, landmarks_FN3 in zip(spans, one.landmarks, strict=True)
    ]
    return Keyframes(np.concatenate(frames_F), np.concatenate(in_picture), float(one.faces.fps))


def write_overlay(one: Dub, keyframes: Keyframes, speech: Path, out: Path) -> None:
    """The video with the landmarks over it and the speech under it, marked as synthetic. Raises MediaError, OSError."""
    from mytalk import media
    from mytalk.dub.retiming import cut_or_pad

    faces = one.faces
    progress = Progress("draw", faces.frames, "frames")
    speech_S = cut_or_pad(media.read_audio(speech, whole=True), round(faces.frames / faces.fps * SAMPLE_HZ))
    media.write_video(out, _drawn(one, keyframes, progress), faces.fps, speech_S, SAMPLE_HZ, MARK)
    progress.finish()


def _drawn(one: Dub, keyframes: Keyframes, progress: Progress) -> Iterator[np.ndarray]:
    from mytalk import media

    place = {frame: index for index, frame in enumerate(keyframes.frames_M.tolist())}
    for number, frame_HW3 in enumerate(media.read_frames(one.faces.video, one.faces.fps, stop=one.faces.frames)):
        index = place.get(number)
        yield frame_HW3 if index is None else drawn(frame_HW3, keyframes.landmarks_MN3[index])
        progress.step()


def drawn(frame_HW3: np.ndarray, landmarks_N3: np.ndarray) -> np.ndarray:
    """A picture with the landmarks over it: dots, and the lips as lines."""
    import cv2

    out_HW3 = np.ascontiguousarray(frame_HW3)
    radius = max(1, round(float(np.ptp(landmarks_N3[:, 1])) / 250))
    lower = set(NOISED)
    for landmark, (x, y) in enumerate(np.rint(landmarks_N3[:, :2]).astype(int).tolist()):
        cv2.circle(out_HW3, (x, y), radius, WRITTEN if landmark in lower else KEPT, -1, cv2.LINE_AA)
    for ring in (OUTER_LIP, INNER_LIP):
        points = np.rint(landmarks_N3[ring, :2]).astype(np.int32)
        cv2.polylines(out_HW3, [points], True, WRITTEN, radius, cv2.LINE_AA)
    return out_HW3

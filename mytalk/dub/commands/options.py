"""The options that `dub` and `motion` share, and what is made of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from mytalk.command import UserError
from mytalk.control import motion_file, times
from mytalk.control.control import Control
from mytalk.dub import faces
from mytalk.face import detector
from mytalk.networks.motion import guidance

PHONES = "phones"


def add(parser: argparse.ArgumentParser) -> None:
    """Add them."""
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a video that shows a person's face")
    parser.add_argument("speech", type=Path, metavar="SPEECH", help="any sound or video file with the speech")
    parser.add_argument("--motion", type=Path, required=True, metavar="FOLDER", help="model of train motion")
    parser.add_argument(
        "--speech-encoder",
        metavar="ENCODER",
        help="folder, name or hub id of the encoder whose features the motion model was trained on, if it was",
    )
    parser.add_argument(
        "--motion-source", type=Path, metavar="VIDEO2", help="a video that shows how the person speaks (default: VIDEO)"
    )
    parser.add_argument(
        "--face",
        type=faces.choice,
        default=faces.Choice(),
        metavar="FACE",
        help="which of several faces is dubbed: largest; track:N, the number of the contact sheet (track:N,M where it "
        "shows one person twice); X,Y,W,H, the face whose middle is in this box of px; all: every face speaks the same "
        "words, each in its own way (default: the main face; where another is as large, a contact sheet is written and "
        "nothing is dubbed)",
    )
    parser.add_argument(
        "--sheet",
        type=Path,
        metavar="PNG",
        help="write the contact sheet of all faces there (default: OUT.faces.png, where --face must be chosen)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed gives other mouth movements (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=30, help="steps of the sampler (default: %(default)s)")
    guidance.add_options(parser)
    parser.add_argument(
        "--amplitude",
        type=float,
        default=1.0,
        metavar="A",
        help="above 1 the mouth moves further from the person's mean than the model writes, below 1 less (default: 1)",
    )
    parser.add_argument(
        "--close-lips",
        metavar="WHEN",
        help=f"{PHONES}: the lips close at every p, b and m that a decoder of English phones hears; or a CSV file with "
        "the columns start_s,stop_s, in which they are closed",
    )
    parser.add_argument("--still", action="store_true", help="the mouth is still while nobody speaks (by level)")
    parser.add_argument(
        "--keyframes",
        type=Path,
        metavar="NPZ",
        help="the lower face is exactly there in these frames: a file of python -m mytalk motion, edited",
    )
    detector.add_option(parser)


def check(args: argparse.Namespace) -> None:
    """Raise UserError for numbers that cannot be."""
    if args.steps < 1 or args.seed < 0:
        raise UserError(f"--steps {args.steps} --seed {args.seed}: steps must be 1 or more, the seed 0 or more")
    if not 0 < args.amplitude < float("inf"):
        raise UserError(f"--amplitude {args.amplitude} must be above 0")


def control(args: argparse.Namespace) -> Control:
    """What is decided about the mouth. Raises UserError, MediaError and OSError."""
    from mytalk import media

    keyframes = None if args.keyframes is None else motion_file.read(args.keyframes)
    closed_s, still_s = None, None
    if args.close_lips is not None and args.close_lips != PHONES:
        closed_s = times.read(Path(args.close_lips))
    if args.still or args.close_lips == PHONES:
        speech_S = media.read_audio(args.speech, whole=True)
        if args.close_lips == PHONES:
            closed_s = times.bilabials(speech_S)
            print(f"{args.speech}: {len(closed_s)} times a p, b or m is heard (English; indicative)")
        if args.still:
            still_s = times.silences(speech_S, media.probe(args.video).duration_s)
    return Control(args.amplitude, closed_s, still_s, keyframes)

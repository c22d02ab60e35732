"""`python -m mytalk dub`: let the person in a video speak the words of a sound file."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from mytalk import command
from mytalk.command import UserError
from mytalk.dub import faces
from mytalk.dub.checks import check
from mytalk.dub.dubbing import dub, load_models
from mytalk.face import detector
from mytalk.progress import clock


def arguments() -> argparse.ArgumentParser:
    """The command line of `dub`."""
    parser = command.parser(
        "python -m mytalk dub",
        "Let the person in VIDEO speak the words of SPEECH: the lower face is generated from the speech and painted\n"
        "into every frame with a face; other frames stay as they are. Size, frame rate and length are the video's.\n"
        "The result is marked as synthetic in its metadata. Dub only people who have agreed to it.",
        "python -m mytalk dub actor.mp4 speech.wav -o dubbed.mp4 --motion runs/demo/motion/model "
        "--appearance runs/demo/appearance/model",
    )
    parser.add_argument("video", type=Path, metavar="VIDEO", help="a video that shows a person's face")
    parser.add_argument("speech", type=Path, metavar="SPEECH", help="any sound or video file with the speech")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the mp4 to write or replace")
    parser.add_argument("--motion", type=Path, required=True, metavar="FOLDER", help="model of train motion")
    parser.add_argument("--appearance", type=Path, required=True, metavar="FOLDER", help="model of train appearance")
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="VIDEO2",
        help="a video of the person that shows how they speak and look (default: VIDEO itself)",
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
        "--sheet", type=Path, metavar="PNG", help="write the contact sheet of all faces there (default: OUT.faces.png)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed gives other mouth movements (default: %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=30, help="steps of the sampler (default: %(default)s)")
    parser.add_argument(
        "--guidance",
        type=float,
        default=1.0,
        metavar="W",
        help="above 1 the mouth follows the speech more strongly; for models trained with speech_dropout (default: 1)",
    )
    detector.add_option(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Dub as the command line asks and print a summary."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped like Ctrl-C: nothing unfinished is left
    try:
        return _run(args)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was written; the same command starts anew") from None


def _run(args: argparse.Namespace) -> int:
    started_s = time.monotonic()
    if args.steps < 1 or args.seed < 0:
        raise UserError(f"--steps {args.steps} --seed {args.seed}: steps must be 1 or more, the seed 0 or more")
    if not 0 <= args.guidance < float("inf"):
        raise UserError(f"--guidance {args.guidance} must be 0 or more")
    check(args.video, args.speech, args.out, args.reference, args.sheet)  # before the slow imports
    import torch

    models = load_models(args.motion, args.appearance, "cuda" if torch.cuda.is_available() else "cpu")
    if args.guidance != 1 and not models.motion.knows_no_speech:
        raise UserError(f"--guidance: {args.motion} was trained without speech_dropout; leave the option out")
    models.motion.guidance = args.guidance
    face_detector = detector.load(args.detector)
    found = dub(
        args.video,
        args.speech,
        args.out,
        models,
        face_detector,
        args.reference,
        args.seed,
        args.steps,
        args.face,
        args.sheet,
    )
    spans = [span for one in found for span in one.spans]
    dubbed = len({frame for span in spans for frame in range(span.start, span.stop)})
    took = clock(time.monotonic() - started_s)
    print(
        f"{args.out}: {dubbed} frames dubbed, {found[0].frames - dubbed} without a face left as they are; "
        f"marked as synthetic in its metadata; took {took}"
    )
    return command.EXIT_DONE

"""`python -m mytalk dub`: let the person in a video speak the words of a sound file."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from mytalk import command
from mytalk.command import UserError
from mytalk.dub import hands
from mytalk.dub.checks import as_user_errors, check
from mytalk.dub.commands import options
from mytalk.dub.dubbing import dub, load_models
from mytalk.dub.person import Sources
from mytalk.face import detector
from mytalk.networks.appearance.config import PRECISIONS
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
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the mp4 to write or replace")
    parser.add_argument(
        "--appearance",
        type=Path,
        action="append",
        required=True,
        metavar="FOLDER",
        help="model of train appearance; may be repeated: each face gets the one whose size_px is nearest to its crop",
    )
    parser.add_argument(
        "--reference",
        type=Path,
        metavar="VIDEO2",
        help="a video that shows how the person speaks and looks (default: VIDEO); for one of the two name "
        "--motion-source or --appearance-source",
    )
    parser.add_argument(
        "--appearance-source", type=Path, metavar="VIDEO2", help="a video that shows how the person looks"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default=PRECISIONS[0],
        help="in which the painter computes: bf16 takes two thirds of its time where the processor has it, and changes "
        "a pixel by a grey level or so (default: %(default)s)",
    )
    options.add(parser)
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
    options.check(args)
    sources = _sources(args)
    check(args.video, args.speech, args.out, sources.paths(), args.sheet)  # before the slow imports
    with as_user_errors():
        control = options.control(args)
    import torch

    first, *others = args.appearance
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = load_models(args.motion, first, device, args.speech_encoder, others)
    models.motion.guide(args.guidance, args.person_guidance)
    for painter in (models.appearance, *models.others):
        painter.compute_in(args.precision)
    found = dub(
        args.video,
        args.speech,
        args.out,
        models,
        detector.load(args.detector),
        sources,
        args.seed,
        args.steps,
        args.face,
        args.sheet,
        control,
        hands.load(),
    )
    spans = [span for one in found for span in one.spans]
    dubbed = len({frame for span in spans for frame in range(span.start, span.stop)})
    took = clock(time.monotonic() - started_s)
    print(
        f"{args.out}: {dubbed} frames dubbed, {found[0].frames - dubbed} without a face left as they are; "
        f"marked as synthetic in its metadata; took {took}"
    )
    return command.EXIT_DONE


def _sources(args: argparse.Namespace) -> Sources:
    """--reference is both of the others. Raises UserError where both are typed too."""
    if args.reference is not None and args.motion_source is not None and args.appearance_source is not None:
        raise UserError("--reference is --motion-source and --appearance-source in one; leave one of the three out")
    return Sources(args.motion_source or args.reference, args.appearance_source or args.reference)

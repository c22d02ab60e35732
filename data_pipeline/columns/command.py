"""`python -m data_pipeline column`: add a column of features to shards."""

from __future__ import annotations

import argparse
import importlib
import sys

from data_pipeline.columns import column
from data_pipeline.shards.manifest_update import local_shards
from data_pipeline.tasks import runner as runners
from mytalk import command

# Name of a column -> the module that computes it: made(...) gives a column.Made, from the options that OPTIONS names
# (True: needed, False: may be left out). docs/extending.md has a whole one.
COLUMNS = {
    "mel": "data_pipeline.columns.mel",  # log-mel energies of the speech
    "predicted": "data_pipeline.columns.predicted",  # landmarks whose lower face a motion model wrote
    "speech": "data_pipeline.columns.speech",  # learnt features of the speech
}


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline column`."""
    parser = command.parser(
        "python -m data_pipeline column",
        "Add a column of features to shards: one tar for each shard, with a row of fp16 values for every frame, and\n"
        "its place in the manifest. Existing shards are not touched. mel: log-mel energies of the speech, the four\n"
        "mel frames of a video frame side by side; an annotated A/V offset is corrected when they are read, to whole\n"
        "frames. predicted: landmarks whose lower face a motion model writes from the speech. speech: what an encoder\n"
        "(wav2vec 2.0, HuBERT, XLSR, Whisper; extra [speech]) makes of it; train with model.features=speech.\n"
        "Stopped at any moment, the same command continues; for shards added later, type it again. Typed on several\n"
        "machines that share SHARDS, or as a Slurm array, the commands divide the work.",
        "python -m data_pipeline column data/hdtf speech --encoder whisper-tiny.en --layer 2",
    )
    parser.add_argument("shards", type=local_shards, help="folder that extract or index wrote")
    parser.add_argument("name", choices=tuple(COLUMNS), help="which features")
    parser.add_argument("--model", metavar="FOLDER", help="the motion model of predicted")
    parser.add_argument(
        "--encoder",
        metavar="ENCODER",
        help="of speech: its folder, whisper-tiny.en (inside an installed package), or a hub id (OWNER/NAME or "
        "OWNER/NAME@REVISION)",
    )
    parser.add_argument(
        "--layer",
        help="of speech: conv, or the number of the block after which the encoder is cut (default: conv; of Whisper, "
        "which has no conv, the last block)",
    )
    parser.add_argument("--as", dest="as_name", metavar="COLUMN", help="call the column so (default: NAME)")
    runners.add_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Add the column to every shard that lacks it, and print what was added."""
    features = importlib.import_module(COLUMNS[args.name])
    metavars = {"model": "FOLDER (python -m train motion)", "encoder": "FOLDER_OR_HUB_ID"}
    for option in ("model", "encoder", "layer"):
        typed, needed = getattr(args, option) is not None, features.OPTIONS.get(option)
        if typed and needed is None:
            raise command.UserError(f"column {args.name} has no --{option}")
        if needed and not typed:
            raise command.UserError(f"column {args.name} needs --{option} {metavars[option]}")
    feature = features.made(**{option: getattr(args, option) for option in features.OPTIONS})
    name, runner = args.as_name or args.name, runners.given(args)
    added = column.add(args.shards, name, feature.values, feature.width, feature.of, feature.made_by, runner)
    print(f"{name:<8} {added.clips} clips, {added.written} of them written now, {feature.width} values a frame")
    if added.damaged:
        lost = f"{len(added.damaged)} clips could not be read and hold NaN, as {added.damaged[0]}"
        print(f"{lost}; examples that use the column take other clips", file=sys.stderr)
    return command.EXIT_DONE

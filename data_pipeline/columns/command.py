"""`python -m data_pipeline column`: add a column of features to shards."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from data_pipeline.columns import column
from data_pipeline.tasks import runner as runners
from mytalk import command

# Name of a column -> the module that computes it: WIDTH values a frame, OF ("audio": shifted with the sound; "": not),
# and values(manifest, row), or values_by(model) and made_by(model). docs/extending.md has a whole one.
COLUMNS = {
    "mel": "data_pipeline.columns.mel",  # log-mel energies of the speech
    "predicted": "data_pipeline.columns.predicted",  # landmarks whose lower face a motion model wrote
}


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline column`."""
    parser = command.parser(
        "python -m data_pipeline column",
        "Add a column of features to shards: one tar for each shard, with a row of fp16 values for every frame, and\n"
        "its place in the manifest. Existing shards are not touched. mel: log-mel energies of the speech, the four\n"
        "mel frames of a video frame side by side; an annotated A/V offset is corrected when they are read, to whole\n"
        "frames. predicted: landmarks whose lower face a motion model writes from the speech.\n"
        "Stopped at any moment, the same command continues; for shards added later, type it again. Typed on several\n"
        "machines that share SHARDS, or as a Slurm array, the commands divide the work.",
        "python -m data_pipeline column data/hdtf mel",
    )
    parser.add_argument("shards", type=Path, help="folder that extract or index wrote")
    parser.add_argument("name", choices=tuple(COLUMNS), help="which features")
    parser.add_argument("--model", metavar="FOLDER", help="the motion model of predicted")
    runners.add_options(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Add the column to every shard that lacks it, and print what was added."""
    features = importlib.import_module(COLUMNS[args.name])
    of_model = hasattr(features, "values_by")
    if of_model != bool(args.model):
        need = "needs --model FOLDER (python -m train motion)" if of_model else "has no --model"
        raise command.UserError(f"column {args.name} {need}")
    made_by = features.made_by(args.model) if of_model else None
    values = features.values_by(args.model) if of_model else features.values
    runner = runners.given(args)
    added = column.add(args.shards, args.name, values, features.WIDTH, features.OF, made_by, runner)
    print(f"{args.name:<8} {added.clips} clips, {added.written} of them written now, {features.WIDTH} values a frame")
    if added.damaged:
        lost = f"{len(added.damaged)} clips could not be read and hold NaN, as {added.damaged[0]}"
        print(f"{lost}; examples that use the column take other clips", file=sys.stderr)
    return command.EXIT_DONE

"""`python -m data_pipeline column`: add a column of features to shards."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from data_pipeline.columns import column
from mytalk import command

# Name of a column -> the module that computes it: WIDTH values a frame, OF ("audio": shifted with the sound; "": not),
# and values(manifest, row). docs/extending.md has a whole one.
COLUMNS = {
    "mel": "data_pipeline.columns.mel",  # log-mel energies of the speech
}


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m data_pipeline column`."""
    parser = command.parser(
        "python -m data_pipeline column",
        "Add a column of features to shards: one tar for each shard, with a row of fp16 values for every frame, and\n"
        "its place in the manifest. Existing shards are not touched. mel: log-mel energies of the speech, the four\n"
        "mel frames of a video frame side by side; an annotated A/V offset is corrected when they are read, to whole\n"
        "frames. Stopped at any moment, the same command continues; for shards added later, type it again.",
        "python -m data_pipeline column data/hdtf mel",
    )
    parser.add_argument("shards", type=Path, help="folder that extract or index wrote")
    parser.add_argument("name", choices=tuple(COLUMNS), help="which features")
    return parser


def run(args: argparse.Namespace) -> int:
    """Add the column to every shard that lacks it, and print what was added."""
    features = importlib.import_module(COLUMNS[args.name])
    added = column.add(args.shards, args.name, features.values, features.WIDTH, of=features.OF)
    print(f"{args.name:<8} {added.clips} clips, {added.written} of them written now, {features.WIDTH} values a frame")
    if added.damaged:
        lost = f"{len(added.damaged)} clips could not be read and hold NaN, as {added.damaged[0]}"
        print(f"{lost}; examples that use the column take other clips", file=sys.stderr)
    return command.EXIT_DONE

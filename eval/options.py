"""What `score` and `benchmark` share on the command line: their options, and what they say at the end."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from data_pipeline.shards.manifest import SPLITS
from eval import plan, report
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE


def add(made: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the shared options."""
    chosen = plan.Settings()
    made.add_argument("--shards", required=True, help="folder or URL of shards with a manifest")
    made.add_argument("--out", type=Path, required=True, help="folder of the report")
    made.add_argument("--split", default=chosen.split, help=f"one of {', '.join(SPLITS)} (default: %(default)s)")
    made.add_argument("--steps", type=_count, default=chosen.sampler_steps, help="sampler steps (default: %(default)s)")
    made.add_argument("--seed", type=int, default=chosen.seed, help="of noise and pairings (default: %(default)s)")
    made.add_argument(
        "--source-frames",
        type=_count,
        default=chosen.source_frames,
        help="frames of the person that the model sees (default: %(default)s)",
    )
    made.add_argument("--clips-per-person", type=_count, help="score at most this many (default: all)")
    made.add_argument("--force", action="store_true", help="replace what OUT holds of other weights or settings")
    made.add_argument("--require-gate", action="store_true", help="exit code 1 where the gate fails")
    return made


def settings(args: argparse.Namespace) -> plan.Settings:
    """What the options choose."""
    return plan.Settings(args.split, args.steps, args.seed, args.source_frames, args.clips_per_person)


def conclude(made: dict[str, Any], args: argparse.Namespace, *files: str) -> int:
    """Print the report's table, its verdicts and where its files lie (one process does); the exit code."""
    if os.environ.get("RANK", "0") == "0":
        print(report.in_words(made))
        for name in files:
            print(args.out / name)
    return EXIT_NOT_DONE if args.require_gate and not made["gate"]["passed"] else EXIT_DONE


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number

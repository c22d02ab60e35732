"""Options that commands share: those of `motion` and `benchmark`, what these print at the end, and counts of any."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from data_pipeline.shards.table.schema import SPLITS
from eval.report import text
from eval.tasks import Settings
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE
from mytalk.networks import weights
from mytalk.networks.motion import guidance

EVALUATORS = {  # models of ours that judge videos, an option each: what it is, and what is missing without it
    "syncnet": "a SyncNet; without it there is no sync metric",
    "pixels": "a SyncNet of pixels; without it no metric @pixels",
    "identity": "an identity encoder; without it no identity metric",
    "reader": "a reader of lips; without it no metric @reader",
}


def add_evaluators(parser: argparse.ArgumentParser) -> None:
    """Add an option for each of EVALUATORS."""
    for name, words in EVALUATORS.items():
        parser.add_argument(f"--{name}", type=Path, help=f"folder of {words}")


def add(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add the shared options."""
    defaults = Settings()
    parser.add_argument("--shards", required=True, help="folder or URL of shards with a manifest")
    parser.add_argument("--out", type=Path, required=True, help="folder of the report")
    parser.add_argument("--split", default=defaults.split, help=f"one of {', '.join(SPLITS)} (default: %(default)s)")
    parser.add_argument(
        "--steps", type=count, default=defaults.sampler_steps, help="sampler steps (default: %(default)s)"
    )
    guidance.add_options(parser)
    parser.add_argument("--seed", type=int, default=defaults.seed, help="of noise and pairings (default: %(default)s)")
    parser.add_argument(
        "--source-frames",
        type=count,
        default=defaults.source_frames,
        help="frames of the person that the model sees (default: %(default)s)",
    )
    parser.add_argument("--clips-per-person", type=count, help="score at most this many (default: all)")
    parser.add_argument("--frames", type=count, help="score at most so many frames of a clip (default: all)")
    parser.add_argument("--force", action="store_true", help="replace what OUT holds of other weights or settings")
    parser.add_argument("--require-gate", action="store_true", help="exit code 1 where the gate fails")
    return parser


def settings(args: argparse.Namespace, motion_model: Path) -> Settings:
    """What the options choose; a distilled model chooses its sampler's steps itself. Raises UserError for no model."""
    steps = weights.own_steps(motion_model) or args.steps
    return Settings(
        args.split,
        steps,
        args.seed,
        args.source_frames,
        args.clips_per_person,
        args.frames,
        args.guidance,
        args.person_guidance,
    )


def conclude(report: dict[str, Any], args: argparse.Namespace, *files: str) -> int:
    """Print the report as `show` does; the exit code says whether the gate passed, where it is required."""
    show(report, args.out, *files)
    passed = not args.require_gate or report.get("gate", {}).get("passed", False)
    return EXIT_DONE if passed else EXIT_NOT_DONE


def show(report: dict[str, Any], out: Path, *files: str) -> int:
    """Print the report's table, its verdicts and its files (one process does); the exit code."""
    if os.environ.get("RANK", "0") == "0":
        print(text.in_words(report))
        for name in files:
            print(out / name)
    return EXIT_DONE


def count_or_all(text: str) -> int | None:
    """An option's count of frames; None for `all`."""
    return None if text == "all" else count(text)


def distance_or_off(text: str) -> float | None:
    """An option's distance, above 0; None for `off`."""
    if text == "off":
        return None
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0 or off, not {text}")
    return number


def count(text: str) -> int:
    """An option's count, 1 or more. Raises ArgumentTypeError."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number

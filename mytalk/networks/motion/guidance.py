"""`--guidance` and `--person-guidance`, of every command that samples motion; what they do: `generation.generate`."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add both to a command line."""
    parser.add_argument(
        "--guidance",
        type=guidance,
        default=1.0,
        metavar="W",
        help="above 1 the mouth follows the speech more strongly; for models trained with speech_dropout (default: 1)",
    )
    parser.add_argument(
        "--person-guidance",
        type=guidance,
        default=1.0,
        metavar="W",
        help="above 1 the mouth moves more as the person's differs from others'; for models trained with "
        "source_dropout (default: 1)",
    )


def guidance(text: str) -> float:
    """An option's value. Raises ArgumentTypeError below 0."""
    number = float(text)
    if not 0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {text}")
    return number

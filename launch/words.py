"""What launchers check of the words that they start, and of their options."""

from __future__ import annotations

from collections.abc import Sequence

from mytalk.command import UserError

FOLDERS = ("train", "eval")


def check_words(words: Sequence[str]) -> None:
    """UserError unless the words after -- name something that can be started."""
    if not words:
        raise UserError("nothing to start; name it after --, such as: -- train motion --config FILE")
    if words[0] not in FOLDERS:
        raise UserError(f"cannot start '{words[0]}'; the first word after -- must be {' or '.join(FOLDERS)}")


def is_training(words: Sequence[str]) -> bool:
    """Whether these words train, and so can be told to write a checkpoint and to continue later."""
    return words[0] == "train"


def at_least(least: int, **options: int | None) -> None:
    """UserError if an option that was given is less."""
    for name, value in options.items():
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")

"""What launchers check of the words that they start, and of their options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mytalk.command import UserError

FOLDERS = ("train", "eval")


def check_words(words: Sequence[str], folders: Sequence[str] = FOLDERS) -> None:
    """UserError unless the words after -- name something that can be started."""
    if not words:
        raise UserError("nothing to start; name it after --, such as: -- train motion --config FILE")
    if words[0] not in folders:
        raise UserError(f"cannot start '{words[0]}'; the first word after -- must be {' or '.join(folders)}")


def is_training(words: Sequence[str]) -> bool:
    """Whether these words train, and so can be told to write a checkpoint and to continue later."""
    return words[0] == "train"


def is_eval(words: Sequence[str]) -> bool:
    """Whether these words score, which any signal may end."""
    return words[0] == "eval"


def at_least(least: int, **options: float | None) -> None:
    """UserError if an option that was given is less, or no number."""
    for name, value in options.items():
        if value is not None and not value >= least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """What the words of a training set, by dotted key: its --config, then key=value. Values of the latter are texts.

    A file that cannot be read sets nothing: training itself says so.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    found: dict[str, Any] = {}
    for at, word in enumerate(words):
        name, equals, file = word.partition("=")
        if name == "--config" and (equals or at + 1 < len(words)):
            try:
                given = OmegaConf.to_container(OmegaConf.load(file if equals else words[at + 1]))
            except (OSError, YAMLError, OmegaConfBaseException, UnicodeDecodeError):
                continue
            found |= given if isinstance(given, dict) else {}  # type: ignore[arg-type]
    for word in words[2:]:
        key, equals, value = word.partition("=")
        if equals and not word.startswith("-"):
            found[key] = value
    return found


def run_folder(words: Sequence[str]) -> Path | None:
    """The run folder of a training; None of anything else."""
    if not is_training(words) or len(words) < 2:
        return None
    return Path(str(settings_of(words).get("run", f"runs/{words[1]}")).strip("'\""))


def global_batch(words: Sequence[str]) -> int:
    """Examples of a step: what the words set, else what the run folder has recorded, else the default of training.

    Raises UserError for what is no number.
    """
    run = run_folder(words)
    found = settings_of(words).get("global_batch")
    if found is None and run is not None and (run / "config.yaml").is_file():
        found = settings_of(["", "", "--config", str(run / "config.yaml")]).get("global_batch")
    try:
        return int(32 if found is None else found)
    except (TypeError, ValueError):
        raise UserError(f"global_batch must be a number, not {found!r}") from None

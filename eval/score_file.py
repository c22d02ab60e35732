"""Scores of clips on disk, so that a stopped scoring continues where it was.

`clips.jsonl` holds what earlier runs finished; while a scoring runs, process R appends to
`clips-R.jsonl`, flushed clip by clip. The first line of each file holds the provenance of the
scores (protocol and digests). Only the last line of a file can be torn, by a kill; it is dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mytalk import atomic
from mytalk.command import UserError

ALL_ROWS = "*"
FLOOR, OURS = "ground_truth", "mytalk"  # rows: the real video through the codec; the clip dubbed by the models
ONE_STEP = "one_step"  # row: as OURS, sampled in one step
WHOLE, PART = "clips.jsonl", "clips-{rank:04d}.jsonl"


@dataclass(frozen=True)
class ClipScore:
    """One clip: method -> metric -> value; or, where it could not be scored, the reason and a message.

    `omitted`: metrics that have no value on this clip in any row, [reason, message]. `traits`: what metrics over people
    are computed from, of the truth and of each row (eval/metrics/people.py). `failed`: rows whose fault a missing score
    is; ALL_ROWS: a crash, which is every row's; none: the clip itself was damaged or not enough. `usable`: rows of a
    clip without a score that were tried and gave a usable result; rows in neither were not tried to their end.
    """

    key: str
    person: str
    methods: dict[str, dict[str, float]] = field(default_factory=dict)
    openings_px: dict[str, list[float]] = field(default_factory=dict)  # curves of the pictured clips
    reason: str | None = None
    message: str | None = None
    notes: list[str] = field(default_factory=list)  # rules that it was scored by, and other clips were not
    omitted: dict[str, list[str]] = field(default_factory=dict)
    traits: dict[str, dict[str, float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    usable: list[str] = field(default_factory=list)


def files(folder: Path) -> list[Path]:
    """Every file of scores in a folder."""
    return sorted(folder.glob("clips*.jsonl"))


def read(path: Path) -> tuple[dict[str, Any] | None, list[ClipScore]]:
    """The provenance of a file's scores (None where a kill came before it was written), and the scores.

    Raises UserError where a line other than a torn last one cannot be read.
    """
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line end is nothing, or torn
    try:
        entries = [json.loads(line, parse_constant=_no_number) for line in lines]
        if entries and not all(isinstance(block, dict) for block in (entries[0], *entries[0].values())):
            raise TypeError
        return (entries[0] if entries else None), [ClipScore(**entry) for entry in entries[1:]]
    except (ValueError, TypeError, AttributeError):
        raise UserError(
            f"{path} is damaged or of another version; delete it and type the same command again, or replace it with "
            "--force"
        ) from None


def write_whole(folder: Path, provenance: dict[str, Any], scores: list[ClipScore]) -> None:
    """Write `clips.jsonl` atomically, then remove the processes' files that it replaces."""
    lines = [json.dumps(provenance, allow_nan=False), *(_line(score) for score in scores)]
    atomic.write_bytes(folder / WHOLE, ("\n".join(lines) + "\n").encode())
    for path in files(folder):
        if path.name != WHOLE:
            path.unlink()


@contextlib.contextmanager
def append_to(folder: Path, rank: int, provenance: dict[str, Any]) -> Iterator[Callable[[ClipScore], None]]:
    """A new file of process `rank`; yields the function that appends a score and flushes it to disk."""
    with open(folder / PART.format(rank=rank), "wb") as handle:

        def append(line: str) -> None:
            handle.write(line.encode() + b"\n")
            handle.flush()
            os.fsync(handle.fileno())

        append(json.dumps(provenance, allow_nan=False))
        yield lambda score: append(_line(score))


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _line(score: ClipScore) -> str:
    return json.dumps(asdict(score), allow_nan=False)

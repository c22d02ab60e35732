"""A shard from its sources: every source ends as clips, or rejected for a reason.

Whatever goes wrong with a source is its own ledger line; only errors of the machine and of our output are raised.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.extract.listing.sources import Source
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.spool import OutputError
from data_pipeline.extract.thumbnails import Thumbnails
from data_pipeline.extract.video import Extracted, Pass, Tools
from data_pipeline.pool import Failure, ItemFailed
from data_pipeline.shards import writer
from data_pipeline.shards.ledger import EXTRACTED, REJECTED
from data_pipeline.shards.writer import Clip
from mytalk import faults, media
from mytalk.command import UserError, one_line
from mytalk.face.detector import DEFAULT

CHANGED = "changed"  # another size than when it was listed
ERROR = "error"  # something that nobody foresaw: its traceback is in faults.ERRORS_FILE
NOT_READABLE = "not_readable"  # permission denied
ADAPTIVE, TRANSNET = "adaptive", "transnet"  # what finds shots
STORAGE = "storage"  # the storage failed twice while it was read, or the file vanished


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard.

    `detector`: a key of `DETECTORS`. `shots`: ADAPTIVE or TRANSNET. `condemned`: the failures of sources that are
    rejected unread, by position.
    """

    videos: Path
    out: Path
    shard: int
    sources: tuple[Source, ...]
    corpus: str
    rules: Rules
    detector: str = DEFAULT
    shots: str = ADAPTIVE
    condemned: Mapping[int, Failure] = field(default_factory=dict)


def write_shard(task: ShardTask, tools: Tools, tick: Callable[[int, int], None]) -> dict[str, Any]:
    """Write a shard and commit it; returns its part. `tick(position, frames)` names the source under way.

    Raises ItemFailed and MemoryError for a source that is to be tried again, OSError for the machine's errors,
    ImportError. Then nothing is left behind.
    """
    ledger: list[dict[str, Any]] = []
    thumbnails = Thumbnails()
    rows, columns = writer.write(task.out, task.shard, _clips(task, tools, thumbnails, tick, ledger))
    thumbnails.write(task.out, task.shard, ledger)
    part = {"shard": task.shard, "sources": ledger, "clips": rows, "columns": columns}
    writer.commit(task.out, part)
    return part


def _clips(task: ShardTask, tools: Tools, thumbnails: Thumbnails, tick, ledger: list[dict[str, Any]]) -> Iterator[Clip]:
    """The clips of all sources, in order. Appends each source's row to `ledger` before its clips."""
    for position, source in enumerate(task.sources):
        tick(position, 0)
        if position in task.condemned:
            ledger.append(_rejected(source, task.condemned[position]))
            continue
        done = _attempt(task, source, tools, thumbnails, lambda n, p=position: tick(p, n))  # type: ignore[misc]
        if isinstance(done, Failure):
            ledger.append(_rejected(source, done))
            continue
        ledger.append(row_of(done, source.file(task.videos)))
        yield from done.clips()


def _attempt(
    task: ShardTask, source: Source, tools: Tools, thumbnails: Thumbnails, tick: Callable[[int], None]
) -> Extracted | Failure:
    """What a source gives, or why it gives nothing. Raises as `write_shard` does."""
    try:
        path = source.file(task.videos)
        audio = source.audio_file(task.videos)
        return Pass(source, task.corpus, task.rules, tools, task.out, thumbnails).run(path, tick, audio)
    except media.MediaError as error:
        return Failure(error.reason, _message(error, task, source))
    except (ImportError, MemoryError, OutputError, UserError):
        raise
    except OSError as error:
        if error.errno in faults.OF_THE_MACHINE:
            raise
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        if error.errno == errno.EACCES:
            return Failure(NOT_READABLE, _message(error, task, source))
        if error.errno is not None:
            raise ItemFailed(STORAGE, _message(error, task, source)) from error
        return _logged(error, task, source)
    except Exception as error:
        return _logged(error, task, source)


def row_of(done: Extracted, path: Path) -> dict[str, Any]:
    """The ledger row of a source that was read."""
    row: dict[str, Any] = {"source": done.source.path, "identity": done.source.identity}
    row |= {"sha256": done.sha256, "frames": done.frames, "cuts": done.cuts, "people": done.people}
    notes = done.notes
    if notes.cut is not None:  # where and why it breaks off
        message = str(notes.cut).replace(str(path), done.source.path)
        row |= {"cut_s": round(notes.cut_s or 0.0, 2), "message": message}
    if notes.lines:  # what was changed in reading it
        row["notes"] = notes.lines
    row["spans"] = done.spans
    if done.spool.clips:
        return row | {"state": EXTRACTED}
    return row | {"state": REJECTED, "reason": done.why_nothing()}


def _rejected(source: Source, failure: Failure) -> dict[str, Any]:
    row = {"source": source.path, "identity": source.identity}
    return row | {"state": REJECTED, "reason": failure.cause, "message": failure.message, "spans": []}


def _message(error: BaseException, task: ShardTask, source: Source) -> str:
    return _named(one_line(error), task, source)


def _logged(error: Exception, task: ShardTask, source: Source) -> Failure:
    """The failure of a source whose error nobody foresaw; its traceback is logged."""
    return Failure(ERROR, _named(faults.logged(task.out, source.path, error), task, source))


def _named(message: str, task: ShardTask, source: Source) -> str:
    """A message with the source's name as the ledger has it."""
    message = message.replace(str(source.file(task.videos)), source.path)
    return message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

"""A shard from its sources: every source ends as clips, or rejected for a reason.

Whatever goes wrong with a source is its own ledger line; only errors of the machine and of our output are raised.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.extract.listing.sources import Source
from data_pipeline.extract.listing.walk import MISSING
from data_pipeline.extract.rules.rules import Rules
from data_pipeline.extract.spool import OutputError
from data_pipeline.extract.thumbnails import Thumbnails
from data_pipeline.extract.video import Extracted, Pass, Tools
from data_pipeline.extract.work import publish
from data_pipeline.pool import Failure, ItemFailed
from data_pipeline.shards import writer
from data_pipeline.shards.ledger import EXTRACTED, REJECTED
from data_pipeline.shards.writer import Clip
from data_pipeline.storage import inputs
from data_pipeline.storage.inputs import Ahead, TooLarge
from data_pipeline.storage.store import Unreachable
from mytalk import faults, media
from mytalk.command import UserError, one_line
from mytalk.face.detector import DEFAULT

CHANGED = "changed"  # another size than when it was listed
ERROR = "error"  # something that nobody foresaw: its traceback is in faults.ERRORS_FILE
NOT_READABLE = "not_readable"  # permission denied
ADAPTIVE, TRANSNET = "adaptive", "transnet"  # what finds shots
TOO_LARGE = "too_large"  # a remote video that the local disk may not hold
STORAGE = "storage"  # the storage failed twice while it was read, or the file vanished


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard.

    `detector`: a key of `DETECTORS`. `shots`: ADAPTIVE or TRANSNET. `condemned`: the failures of sources that are
    rejected unread, by position. `videos` is a folder or a URL; of remote videos at most `scratch_bytes` lie in `out`
    at a time.
    """

    videos: Path | str
    out: Path
    shard: int
    sources: tuple[Source, ...]
    corpus: str
    rules: Rules
    detector: str = DEFAULT
    shots: str = ADAPTIVE
    condemned: Mapping[int, Failure] = field(default_factory=dict)
    scratch_bytes: int = 8 << 30
    to: str = ""  # the URL that its tars are sent to; "": they stay in `out`


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
    if task.to:
        publish.send_shard(task.out, task.shard, columns, task.to)
    writer.commit(task.out, part)
    return part


def _clips(task: ShardTask, tools: Tools, thumbnails: Thumbnails, tick, ledger: list[dict[str, Any]]) -> Iterator[Clip]:
    """The clips of all sources, in order. Appends each source's row to `ledger` before its clips."""
    places = [[] if n in task.condemned else source.files(task.videos) for n, source in enumerate(task.sources)]
    with inputs.Ahead(task.out, places, task.scratch_bytes) as ahead:
        for position, source in enumerate(task.sources):
            tick(position, 0)
            if position in task.condemned:
                ledger.append(_rejected(source, task.condemned[position]))
                continue
            work = functools.partial(tick, position)
            done = _attempt(task, position, tools, thumbnails, work, ahead)
            if isinstance(done, Failure):
                ledger.append(_rejected(source, done))
                continue
            ledger.append(row_of(done))
            yield from done.clips()


def _attempt(
    task: ShardTask, position: int, tools: Tools, thumbnails: Thumbnails, tick: Callable[[int], None], ahead: Ahead
) -> Extracted | Failure:
    """What a source gives, or why it gives nothing. Raises as `write_shard` does."""
    source = task.sources[position]
    known_as = source.shown(task.videos)  # to who reads it
    try:
        path, *audio = ahead.files(position, functools.partial(tick, 0))
        known_as = str(path)
        one = Pass(source, task.corpus, task.rules, tools, task.out, thumbnails)
        return one.run(path, tick, audio[0] if audio else None)
    except TooLarge as error:
        return Failure(TOO_LARGE, str(error))
    except media.MediaError as error:
        return Failure(error.reason, _message(error, known_as, source))
    except (ImportError, MemoryError, OutputError, UserError):
        raise
    except OSError as error:
        if error.errno in faults.OF_THE_MACHINE:
            raise
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        if inputs.is_remote(source.shown(task.videos)) and isinstance(error, FileNotFoundError):
            return Failure(MISSING, _message(error, known_as, source))
        if isinstance(error, Unreachable):
            raise ItemFailed(STORAGE, _message(error, known_as, source)) from error
        if error.errno == errno.EACCES:
            return Failure(NOT_READABLE, _message(error, known_as, source))
        if error.errno is not None:
            raise ItemFailed(STORAGE, _message(error, known_as, source)) from error
        return _logged(error, task.out, known_as, source)
    except Exception as error:
        return _logged(error, task.out, known_as, source)


def row_of(done: Extracted) -> dict[str, Any]:
    """The ledger row of a source that was read."""
    row: dict[str, Any] = {"source": done.source.path, "identity": done.source.identity}
    row |= {"sha256": done.sha256, "frames": done.frames, "cuts": done.cuts, "people": done.people}
    notes = done.notes
    if notes.cut is not None:  # where and why it breaks off
        message = str(notes.cut).replace(str(done.path), done.source.path)
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


def _message(error: BaseException, known_as: str, source: Source) -> str:
    return _named(one_line(error), known_as, source)


def _logged(error: Exception, out: Path, known_as: str, source: Source) -> Failure:
    """The failure of a source whose error nobody foresaw; its traceback is logged."""
    return Failure(ERROR, _named(faults.logged(out, source.path, error), known_as, source))


def _named(message: str, known_as: str, source: Source) -> str:
    """A message with the source's name as the ledger has it."""
    message = message.replace(known_as, source.path)
    return message.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

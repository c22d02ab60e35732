"""A shard from its sources: every source ends as clips, or rejected for a reason.

Whatever goes wrong with a source is its own ledger line; only errors of the machine and of our output are raised.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_pipeline.extract import survey
from data_pipeline.extract.sources import Source
from data_pipeline.extract.survey import Limits
from data_pipeline.pool import Failure, ItemFailed
from data_pipeline.shards import writer
from data_pipeline.shards.ledger import EXTRACTED, KEPT, REJECTED
from data_pipeline.shards.writer import Clip
from mytalk import faults, media
from mytalk.command import UserError, one_line
from mytalk.face.detector import DEFAULT, Detector

CHANGED = "changed"  # another size than when it was listed
ERROR = "error"  # something that nobody foresaw: its traceback is in faults.ERRORS_FILE
NOT_READABLE = "not_readable"  # permission denied
STORAGE = "storage"  # the storage failed twice while it was read, or the file vanished


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard.

    `detector`: a key of `DETECTORS`. `condemned`: the failures of sources that are rejected unread, by position.
    """

    videos: Path
    out: Path
    shard: int
    sources: tuple[Source, ...]
    corpus: str
    limits: Limits
    detector: str = DEFAULT
    condemned: Mapping[int, Failure] = field(default_factory=dict)


def write_shard(task: ShardTask, detector: Detector, tick: Callable[[int, int], None]) -> dict[str, Any]:
    """Write a shard and commit it; returns its part. `tick(position, frames)` names the source under way.

    Raises ItemFailed and MemoryError for a source that is to be tried again, OSError for the machine's errors,
    ImportError. Then nothing is left behind.
    """
    ledger: list[dict[str, Any]] = []
    rows, columns = writer.write(task.out, task.shard, _clips(task, detector, tick, ledger))
    part = {"shard": task.shard, "sources": ledger, "clips": rows, "columns": columns}
    writer.commit(task.out, part)
    return part


def _clips(task: ShardTask, detector: Detector, tick, ledger: list[dict[str, Any]]) -> Iterator[Clip]:
    """The clips of all sources, in order. Appends each source's row to `ledger` before its clips."""
    for position, source in enumerate(task.sources):
        tick(position, 0)
        if position in task.condemned:
            ledger.append(_rejected(source, task.condemned[position]))
            continue
        row, clips = _attempt(task, source, detector, lambda n, p=position: tick(p, n))  # type: ignore[misc]
        ledger.append(row)
        yield from clips


def _attempt(
    task: ShardTask, source: Source, detector: Detector, tick: Callable[[int], None]
) -> tuple[dict[str, Any], list[Clip]]:
    """The ledger row of a source and its clips, all of them or none. Raises as `write_shard` does."""
    try:
        return extract_source(task, source, detector, tick)
    except media.MediaError as error:
        return _rejected(source, Failure(error.reason, _message(error, task, source))), []
    except (ImportError, MemoryError, UserError):
        raise
    except OSError as error:
        if error.errno in faults.OF_THE_MACHINE:
            raise
        if error.errno == errno.ENOMEM:
            raise MemoryError from error
        if error.errno == errno.EACCES:
            return _rejected(source, Failure(NOT_READABLE, _message(error, task, source))), []
        if error.errno is not None:
            raise ItemFailed(STORAGE, _message(error, task, source)) from error
        return _rejected(source, _logged(error, task, source)), []
    except Exception as error:
        return _rejected(source, _logged(error, task, source)), []


def extract_source(
    task: ShardTask, source: Source, detector: Detector, tick: Callable[[int], None]
) -> tuple[dict[str, Any], list[Clip]]:
    """The ledger row of a source, and its clips. Raises MediaError, OSError."""
    path = source.file(task.videos)
    surveyed = survey.survey(path, source.ranges_s, detector, tick)
    spans = survey.spans_of(surveyed, task.limits)
    kept = [span for span in spans if span.state == KEPT]
    row: dict[str, Any] = {"source": source.path, "identity": source.identity}
    row |= {"sha256": surveyed.sha256, "frames": len(surveyed.found_T)}
    row |= survey.remarks(surveyed.notes, path, source.path)
    row["spans"] = [{"start": span.start, "stop": span.stop, "state": span.state} for span in spans]
    if not kept:
        return row | {"state": REJECTED, "reason": survey.why_nothing(surveyed, spans)}, []
    clips = list(survey.clips(path, source, task.corpus, surveyed, kept, tick))
    return row | {"state": EXTRACTED}, clips


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

"""A shard from its sources: every source ends as clips, or rejected for a reason."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.extract import survey
from data_pipeline.extract.sources import Source
from data_pipeline.extract.survey import Limits
from data_pipeline.shards import writer
from data_pipeline.shards.ledger import EXTRACTED, KEPT, REJECTED
from data_pipeline.shards.writer import Clip
from mytalk import media
from mytalk.face.detector import DEFAULT, Detector

WORKER_DIED = "worker_died"


@dataclass(frozen=True)
class ShardTask:
    """What a worker needs to write a shard.

    `detector`: a key of `DETECTORS`. `condemned`: positions of sources that killed their worker.
    """

    videos: Path
    out: Path
    shard: int
    sources: tuple[Source, ...]
    corpus: str
    limits: Limits
    detector: str = DEFAULT
    condemned: frozenset[int] = frozenset()


def write_shard(task: ShardTask, detector: Detector, tick: Callable[[int, int], None]) -> dict[str, Any]:
    """Write a shard and commit it; returns its part. `tick(position, frames)` names the source under way.

    Only a source's content rejects it (MediaError); OSError passes through and leaves nothing behind.
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
            ledger.append(_rejected(source, WORKER_DIED, "its worker process died twice on it"))
            continue
        try:
            row, clips = extract_source(task, source, detector, lambda n, p=position: tick(p, n))  # type: ignore[misc]
        except media.MediaError as error:
            message = str(error).replace(str(task.videos / source.path), source.path)
            ledger.append(_rejected(source, error.reason, message))
            continue
        ledger.append(row)
        try:
            yield from clips
        except media.MediaError as error:  # the first pass could read all of it: the file changes meanwhile
            raise OSError(errno.ESTALE, "changed while it was read", source.path) from error


def extract_source(
    task: ShardTask, source: Source, detector: Detector, tick: Callable[[int], None]
) -> tuple[dict[str, Any], Iterator[Clip]]:
    """The ledger row of a source, and its clips, which are read when they are taken. Raises MediaError, OSError."""
    path = task.videos / source.path
    surveyed = survey.survey(path, source.ranges_s, detector, tick)
    spans = survey.spans_of(surveyed, task.limits)
    kept = [span for span in spans if span.state == KEPT]
    row: dict[str, Any] = {"source": source.path, "identity": source.identity}
    row |= {"sha256": surveyed.sha256, "frames": len(surveyed.found_T)}
    row["spans"] = [{"start": span.start, "stop": span.stop, "state": span.state} for span in spans]
    if not kept:
        return row | {"state": REJECTED, "reason": survey.why_nothing(surveyed, spans)}, iter(())
    return row | {"state": EXTRACTED}, survey.clips(path, source, task.corpus, surveyed, kept)


def _rejected(source: Source, reason: str, message: str) -> dict[str, Any]:
    row = {"source": source.path, "identity": source.identity}
    return row | {"state": REJECTED, "reason": reason, "message": message, "spans": []}

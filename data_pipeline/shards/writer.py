"""Writing one shard: two tar columns with equal keys in equal order, their checksums, then the part that commits them.

A shard exists once `parts/NNNNNN.json` does; that file is written last. A shard whose sources were all
rejected has a part and no tars.
"""

from __future__ import annotations

import contextlib
import errno
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.extract import spans
from data_pipeline.extract import survey as surveys
from data_pipeline.extract.sources import Source
from data_pipeline.shards import checksums, members
from data_pipeline.shards.layout import COLUMNS, MEMBERS, part_path, sums_name, tar_path
from mytalk import atomic, media
from mytalk.digest import sha256_of
from mytalk.face.detector import DEFAULT

EXTRACTED = "extracted"
REJECTED = "rejected"
WORKER_DIED = "worker_died"


@dataclass(frozen=True)
class Task:
    """What a worker needs to make a shard.

    `detector`: a key of `DETECTORS`. `condemned`: positions of sources that killed their worker.
    """

    videos: Path
    out: Path
    shard: int
    sources: tuple[Source, ...]
    corpus: str
    limits: surveys.Limits
    detector: str = DEFAULT
    condemned: frozenset[int] = frozenset()


def write(task: Task, detector, tick: Callable[[int, int], None]) -> dict[str, Any]:
    """Make a shard and commit it; returns its part. `tick(position, frames)` tells the source under way.

    Only a source's content rejects it (MediaError); OSError passes through and leaves nothing behind.
    """
    rows, clips = [], []
    with contextlib.ExitStack() as stack:
        writers: dict[str, Any] = {}
        for position, source in enumerate(task.sources):
            tick(position, 0)
            row: dict[str, Any] = {"source": source.path, "identity": source.identity}
            rows.append(row)
            if position in task.condemned:
                row.update(_rejected(WORKER_DIED, "its worker process died twice on it"))
                continue
            try:
                made = _one_source(task, source, detector, lambda n, p=position: tick(p, n), row)
                for clip in made:
                    if not writers:
                        writers = _open(stack, task)
                    _append(writers, clip)
                    clips.append({"key": clip.key, "frames": clip.frames, "facts": clip.facts})
            except media.MediaError as error:
                if row.get("state") == EXTRACTED:  # the first pass read it whole: it is changing under us
                    raise OSError(errno.ESTALE, "changed while it was read", source.path) from error
                message = str(error).replace(str(task.videos / source.path), source.path)
                row.update(_rejected(error.reason, message))
    part: dict[str, Any] = {"shard": task.shard, "sources": rows, "clips": clips, "columns": {}}
    if clips:
        _index(task, clips)
        for column in COLUMNS:
            part["columns"][column] = summed(task.out, column, task.shard)
    atomic.write_json(part_path(task.out, task.shard), part)
    return part


def summed(out: Path, column: str, shard: int) -> dict[str, Any]:
    """Write the checksums of a finished tar; returns what the manifest's header says of it: bytes and SHA-256."""
    path = tar_path(out, column, shard)
    checksums.write(path, out / sums_name(column, shard))
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _rejected(reason: str, message: str) -> dict[str, Any]:
    return {"state": REJECTED, "reason": reason, "message": message, "spans": []}


def _one_source(task: Task, source: Source, detector, tick, row: dict[str, Any]):
    """Yield the source's clips and fill in its row of the ledger."""
    path = task.videos / source.path
    found = surveys.survey(path, detector, tick)
    judged = surveys.judged(found, task.limits)
    kept = [span for span in judged if span.state == spans.KEPT]
    row.update(sha256=found.sha256, frames=len(found.found_T))
    row["spans"] = [{"start": s.start, "stop": s.stop, "state": s.state} for s in judged]
    if kept:
        row.update(state=EXTRACTED)
        yield from surveys.clips(path, source, task.corpus, found, kept, task.limits)
    else:
        row.update(state=REJECTED, reason=surveys.why_nothing(found, judged))


def _open(stack: contextlib.ExitStack, task: Task) -> dict[str, Any]:
    from webdataset.writer import TarWriter

    writers = {}
    for column in COLUMNS:
        handle = stack.enter_context(atomic.file(tar_path(task.out, column, task.shard)))
        # No time stamp and no codec of its own: the same clips give the same bytes.
        writers[column] = stack.enter_context(TarWriter(handle, mtime=0, encoder=False))
    return writers


def _append(writers: dict[str, Any], clip: surveys.Clip) -> None:
    data = {
        "landmarks": clip.landmarks,
        "audio": clip.audio,
        "facts": members.facts_json(clip.facts),
        "video": clip.video,
    }
    for column in COLUMNS:
        sample = {ext: data[name] for name, (held, ext) in MEMBERS.items() if held == column}
        writers[column].write({"__key__": clip.key, **sample})


def _index(task: Task, clips: list[dict[str, Any]]) -> None:
    """Give every clip the file offset and size of its members' data, as the tars on disk have them."""
    for column in COLUMNS:
        with tarfile.open(tar_path(task.out, column, task.shard), "r:") as tar:
            at = {info.name: (info.offset_data, info.size) for info in tar}
        for clip in clips:
            for name, (held, ext) in MEMBERS.items():
                if held == column:
                    clip[f"{name}_offset"], clip[f"{name}_size"] = at[f"{clip['key']}.{ext}"]

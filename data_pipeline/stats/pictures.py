"""Small pictures for the page: frames of kept clips, and the thumbnails of rejected spans."""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from data_pipeline.shards import video_reader
from data_pipeline.shards.layout import rejected_path
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.reader import ClipError
from data_pipeline.stats.extraction import RejectedSpan
from data_pipeline.storage.store import Store

SIDE_PX, JPEG_QUALITY = 128, 78
AT_ONCE = 16  # clips


def of_clips(manifest: Manifest, rows: Iterable[int]) -> dict[int, bytes]:
    """The middle frame of these clips as JPEG, by row. Damaged clips, and those without frames, are missing."""
    pictures: dict[int, bytes] = {}
    if not manifest.has("video_size"):
        return pictures
    rest = iter(sorted(row for row in set(rows) if manifest.at(row, "video_size")))
    while some := list(islice(rest, AT_ONCE)):
        middles = [(row, [int(manifest.at(row, "frames")) // 2]) for row in some]
        try:
            frames = video_reader.read_frames(manifest, middles)
        except FileNotFoundError:  # the column was left behind
            return pictures
        good = zip(some, frames)
        pictures.update((row, _jpeg(frame[0])) for row, frame in good if not isinstance(frame, ClipError))
    return pictures


def of_rejected(stores: Sequence[Store], spans: Iterable[RejectedSpan]) -> dict[RejectedSpan, bytes]:
    """The thumbnails of these spans as they were stored; those that are no longer there are missing."""
    of_shard: dict[tuple[int, int], list[RejectedSpan]] = {}
    for span in spans:
        of_shard.setdefault((span.ledger, span.shard), []).append(span)
    pictures: dict[RejectedSpan, bytes] = {}
    for (ledger, shard), some in of_shard.items():
        store, name = stores[ledger], rejected_path(Path(), shard).as_posix()
        if store.exists(name):
            with tarfile.open(fileobj=io.BytesIO(store.whole(name))) as tar:
                pictures |= {span: data for span in some if (data := _member(tar, span.thumb))}
    return pictures


def _member(tar: tarfile.TarFile, name: str) -> bytes | None:
    with contextlib.suppress(KeyError):
        member = tar.extractfile(name)
        return member.read() if member else None
    return None


def _jpeg(frame_HW3: np.ndarray) -> bytes:
    target = io.BytesIO()
    small = Image.fromarray(frame_HW3).resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    small.save(target, "JPEG", quality=JPEG_QUALITY)
    return target.getvalue()

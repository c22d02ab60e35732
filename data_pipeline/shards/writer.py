"""Writing one shard: tars with equal keys in equal order, their checksums, then the part that commits them.

A shard exists once `parts/NNNNNN.json` does; that file is written last. A shard without clips has a part and no tars.
"""

from __future__ import annotations

import contextlib
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_pipeline.shards import checksums, members
from data_pipeline.shards.layout import COLUMNS, MEMBERS, part_path, sums_name, tar_path
from mytalk import atomic
from mytalk.digest import sha256_of


@dataclass(frozen=True)
class Clip:
    """A clip ready to be written: its length in frames, its facts, and the bytes of its other members."""

    key: str
    frames: int
    facts: dict[str, Any]
    landmarks: bytes
    audio: bytes
    video: bytes = b""


def write(
    out: Path, shard: int, clips: Iterable[Clip], columns: Sequence[str] = COLUMNS
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Write clips, one at a time, to the tars of a shard; returns a row for each clip, and `describe` of each tar.

    A row holds key, frames, facts, and offset and size of every member in its tar (0 where `columns` lacks it). Raises
    what `clips` raises, OSError; then nothing is left behind.
    """
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        writers: dict[str, Any] = {}
        for clip in clips:
            writers = writers or _open(stack, out, shard, columns)
            _append(writers, clip)
            rows.append({"key": clip.key, "frames": clip.frames, "facts": clip.facts})
    if not rows:
        return [], {}
    _add_places(out, shard, rows, columns)
    return rows, {column: describe(out, column, shard) for column in columns}


def describe(out: Path, column: str, shard: int) -> dict[str, Any]:
    """Write the checksums of a finished tar; returns its entry in the manifest's header: bytes and SHA-256."""
    path = tar_path(out, column, shard)
    checksums.write(path, out / sums_name(column, shard))
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def commit(out: Path, part: dict[str, Any]) -> None:
    """Write a shard's part, which makes the shard exist."""
    atomic.write_json(part_path(out, part["shard"]), part)


def _open(stack: contextlib.ExitStack, out: Path, shard: int, columns: Sequence[str]) -> dict[str, Any]:
    from webdataset.writer import TarWriter

    writers = {}
    for column in columns:
        handle = stack.enter_context(atomic.file(tar_path(out, column, shard)))
        # Without time stamps and without TarWriter's encoders the same clips give the same bytes.
        writers[column] = stack.enter_context(TarWriter(handle, mtime=0, encoder=False))
    return writers


def _append(writers: dict[str, Any], clip: Clip) -> None:
    data = {
        "landmarks": clip.landmarks,
        "audio": clip.audio,
        "facts": members.facts_json(clip.facts),
        "video": clip.video,
    }
    for column, writer in writers.items():
        sample = {extension: data[name] for name, (place, extension) in MEMBERS.items() if place == column}
        writer.write({"__key__": clip.key, **sample})


def _add_places(out: Path, shard: int, rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """Give every row the file offset and size of its members' data, as the tars on disk have them."""
    places: dict[str, tuple[int, int]] = {}
    for column in columns:
        with tarfile.open(tar_path(out, column, shard), "r:") as tar:
            places.update((info.name, (info.offset_data, info.size)) for info in tar)
    for column in COLUMNS:
        for row in rows:
            for name, (place, extension) in MEMBERS.items():
                if place == column:
                    row[f"{name}_offset"], row[f"{name}_size"] = places.get(f"{row['key']}.{extension}", (0, 0))

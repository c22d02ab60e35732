"""Manifests of clips without shards, and where a clip of real shards lies."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from data_pipeline.shards import manifest, reader
from data_pipeline.shards.table import schema


def row(identity: str, split: str, source: str = "", key: str = "", frames: int = 25) -> dict:
    """A row of a made-up table."""
    blank = {field.name: "" if pa.types.is_string(field.type) else 0 for field in schema.SCHEMA}
    blank.update(has_audio=True, speaks=None)
    blank.update(crop=[1.0, 0, 0, 0, 1, 0], identity=identity, split=split, frames=frames)
    blank.update(source_sha256=source or f"digest of {identity}", key=key or f"{identity}-{source}")
    return blank


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=schema.SCHEMA)


def place_of(
    made: manifest.Manifest, row: int, member: str, start: int = 0, stop: int | None = None
) -> tuple[Path, int, int]:
    """(tar, offset, size in bytes) of frames [start, stop) of a member, or of all of it."""
    piece = reader.piece_of(made, reader.ReadRequest(row, member, start, stop))
    return made.shard_path(piece.column, int(made.at(row, "shard"))), piece.offset, piece.size


def in_memory(**columns: list) -> manifest.Manifest:
    """A manifest of these columns, without a folder."""
    return manifest.Manifest(Path("nowhere"), {}, pa.table(columns))

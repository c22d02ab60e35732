"""Parts: what a writer of shards leaves behind each finished shard, and the table of them all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_pipeline.shards.layout import sums_name, tar_path
from data_pipeline.shards.table.schema import PLACES, SCHEMA


def finished_part(
    folder: Path, path: Path, shard: int, written_from: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """The part at `path`, if it was `written_from` this and the shard's tars lie there in full length, with checksums.

    A part says of its tars either `columns`, by name, or `tar` for its one `column`.
    """
    written_from = written_from or {}
    try:
        part = json.loads(path.read_text())
        if {name: part.get(name) for name in written_from} != written_from:
            return None
        tars = part["columns"] if "columns" in part else {part["column"]: part["tar"]}
        for column, stated in tars.items():
            if tar_path(folder, column, shard).stat().st_size != stated["bytes"]:
                return None
            (folder / sums_name(column, shard)).stat()
    except (FileNotFoundError, ValueError, AttributeError, KeyError):
        return None
    return part


def from_parts(parts: Iterable[dict[str, Any]], protocol: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    """Table and header of all shards' parts, in shard order. A corpus's own facts are columns behind SCHEMA's."""
    rows, shards = [], []
    for part in sorted(parts, key=lambda part: part["shard"]):
        for clip in part["clips"]:
            places = {name: clip[name] for name, _ in PLACES}
            rows.append({"key": clip["key"], "split": "", "frames": clip["frames"], "shard": part["shard"]})
            rows[-1].update(places, **clip["facts"])
        if part["clips"]:
            shards.append({"shard": part["shard"], **part["columns"]})
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    for name in dict.fromkeys(name for row in rows for name in row if name not in SCHEMA.names):
        table = table.append_column(name, pa.array([row.get(name) for row in rows]))
    return table, {"protocol": protocol, "shards": shards}

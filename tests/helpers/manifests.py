"""Manifests of clips that exist nowhere else."""

from __future__ import annotations

import pyarrow as pa

from data_pipeline.shards import manifest


def row(identity: str, split: str, source: str = "", key: str = "", frames: int = 25) -> dict:
    """A row of a made-up table."""
    blank = {field.name: "" if pa.types.is_string(field.type) else 0 for field in manifest.SCHEMA}
    blank.update(has_audio=True)
    blank.update(crop=[1.0, 0, 0, 0, 1, 0], identity=identity, split=split, frames=frames)
    blank.update(source_sha256=source or f"digest of {identity}", key=key or f"{identity}-{source}")
    return blank


def table(*rows: dict) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=manifest.SCHEMA)

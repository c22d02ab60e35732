"""The manifest: one row per clip in shard order, and what the shards are and how they were made.

`manifest.parquet` holds the rows: key, identity, corpus, split, frames, shard, `<member>_offset` and
`<member>_size` for landmarks, audio, facts and video (where the member's data lies in its tar), and every
fact. `manifest.json` holds the format version, the protocol, size and SHA-256 of every shard, and the
digest of the table; it is written last, so a table it does not name is not the manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.layout import MEMBERS, tar_path
from mytalk import atomic
from mytalk.command import UserError

FORMAT = 1
TABLE, HEADER = "manifest.parquet", "manifest.json"
SPLITS = ("train", "val", "unseen")

_PLACES = [(f"{member}_{what}", pa.int64()) for member in MEMBERS for what in ("offset", "size")]
SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("identity", pa.string()),
        ("corpus", pa.string()),
        ("split", pa.string()),
        ("frames", pa.int32()),
        ("shard", pa.int32()),
        *_PLACES,
        ("source", pa.string()),
        ("start_frame", pa.int32()),
        ("stop_frame", pa.int32()),
        ("source_fps", pa.float64()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_sha256", pa.string()),
        ("crop", pa.list_(pa.float64(), 6)),
        ("crop_px", pa.int32()),
        ("detected_share", pa.float64()),
        ("face_px", pa.float64()),
        ("yaw_deg", pa.float64()),
        ("roll_deg", pa.float64()),
        ("blur", pa.float64()),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """A loaded manifest: its folder, the header (manifest.json) and the table (a row per clip)."""

    folder: Path
    header: dict[str, Any]
    table: pa.Table
    _columns: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, folder: str | Path) -> Manifest:
        """Read and check a manifest.

        Raises UserError where it is missing, of another format, torn, or has one person (or one source, or
        one duplicate group) in two splits.
        """
        folder = Path(folder)
        header = _read_header(folder)
        data = _read_table(folder)
        if hashlib.sha256(data).hexdigest() != header["table"]["sha256"]:
            raise UserError(
                f"{folder}: manifest.json and manifest.parquet are not of one write; type the command that "
                "wrote them (extract, split or annotate) again"
            )
        made = cls(folder, header, _parsed(data))
        _refuse_leaks(made.table, folder)
        return made

    @property
    def digest(self) -> str:
        """SHA-256 of the table."""
        return self.header["table"]["sha256"]

    def __len__(self) -> int:
        return self.table.num_rows

    def column(self, name: str) -> np.ndarray:
        """A column as an array (strings as objects). Raises UserError for a column that is not there."""
        if name not in self._columns:
            if name not in self.table.column_names:
                raise UserError(f"{self.folder}: the manifest has no column '{name}'; annotate makes more")
            self._columns[name] = self.table[name].to_numpy()
        return self._columns[name]

    def rows(self, split: str) -> np.ndarray:
        """Indices of the rows of a split, in order. Raises UserError where there are none."""
        if split not in SPLITS:
            raise UserError(f"no split '{split}'; there are: {', '.join(SPLITS)}")
        rows = np.flatnonzero(self.column("split") == split)
        if not len(rows):
            raise UserError(
                f"{self.folder}: no clip is in split '{split}'; assign people with: "
                f"python -m data_pipeline split {self.folder}"
            )
        return rows

    def rows_of_people(self, split: str) -> dict[str, list[int]]:
        """Rows of each person of a split, in manifest order. Raises UserError as `rows` does."""
        identity = self.column("identity")
        held: dict[str, list[int]] = {}
        for row in self.rows(split).tolist():
            held.setdefault(str(identity[row]), []).append(row)
        return held

    def shard_path(self, column: str, shard: int) -> Path:
        """The tar of a shard's column (`motion`, `frames`, or a later one)."""
        return tar_path(self.folder, column, int(shard))


def pending(folder: Path) -> tuple[pa.Table, dict[str, Any], bool] | None:
    """Table, header, and whether they are of one write, for a command that will write the manifest anew.

    A writer killed between the two files leaves a new table beside an old header: each is whole, and what
    the table holds beyond the header is the work of the command that now runs again. None without both.
    """
    try:
        header, data = _read_header(folder), _read_table(folder)
        table = _parsed(data)
    except (UserError, pa.ArrowInvalid):
        return None
    return table, header, hashlib.sha256(data).hexdigest() == header["table"]["sha256"]


def save(folder: Path, table: pa.Table, header: dict[str, Any]) -> Manifest:
    """Write table and header; returns them as the new manifest. Raises UserError for a leaking split."""
    _refuse_leaks(table, folder)
    target = io.BytesIO()
    pq.write_table(table, target)
    data = target.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    header = {**header, "format": FORMAT, "table": {"sha256": digest, "bytes": len(data), "rows": len(table)}}
    atomic.write_bytes(folder / TABLE, data)
    atomic.write_json(folder / HEADER, header)
    return Manifest(folder, header, table)


def from_parts(parts: Iterable[dict[str, Any]], protocol: dict[str, Any]) -> tuple[pa.Table, dict[str, Any]]:
    """Table and header of all shards' parts, in shard order."""
    rows, shards = [], []
    for part in sorted(parts, key=lambda part: part["shard"]):
        for clip in part["clips"]:
            places = {name: clip[name] for name, _ in _PLACES}
            rows.append({"key": clip["key"], "split": "", "frames": clip["frames"], "shard": part["shard"]})
            rows[-1].update(places, **clip["facts"])
        if part["clips"]:
            shards.append({"shard": part["shard"], **part["columns"]})
    return pa.Table.from_pylist(rows, schema=SCHEMA), {"protocol": protocol, "shards": shards}


def carried(table: pa.Table, old: pa.Table) -> pa.Table:
    """A fresh table with what `old` knows beyond extraction: splits and annotated columns, by key.

    Rows that are new stay without.
    """
    place = {key: index for index, key in enumerate(old["key"].to_pylist())}
    indices = pa.array([place.get(key) for key in table["key"].to_pylist()], pa.int64())
    splits = [value or "" for value in old["split"].take(indices).to_pylist()]
    table = table.set_column(table.column_names.index("split"), "split", pa.array(splits, pa.string()))
    for name in old.column_names:
        if name not in table.column_names:
            table = table.append_column(name, old[name].take(indices))
    return table


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / HEADER).read_text())
    except FileNotFoundError:
        raise UserError(_make_one(folder, HEADER)) from None
    except ValueError:
        raise UserError(f"{folder / HEADER} is not JSON; type the extract command again") from None
    if header.get("format") != FORMAT:
        raise UserError(f"{folder / HEADER} has format {header.get('format')}, this version reads {FORMAT}")
    return header


def _read_table(folder: Path) -> bytes:
    try:
        return (folder / TABLE).read_bytes()
    except FileNotFoundError:
        raise UserError(_make_one(folder, TABLE)) from None


def _parsed(data: bytes) -> pa.Table:
    """The table in a Parquet file's bytes.

    In one thread: with pyarrow 21, the threads that read bytes in memory abort the process at its exit every
    second time, with the exit code of a failure.
    """
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)


def _make_one(folder: Path, name: str) -> str:
    return f"{folder / name} is missing; make it with: python -m data_pipeline extract VIDEOS {folder}"


def _refuse_leaks(table: pa.Table, folder: Path) -> None:
    """No identity, no identical source and no duplicate group is in two splits (invariant 3)."""
    split = table["split"].to_numpy()
    assigned = split != ""
    for name in ("identity", "source_sha256", "duplicate_group"):
        if name not in table.column_names:
            continue
        values = table[name].to_numpy()
        held: dict[Any, str] = {}
        for value, where in set(zip(values[assigned], split[assigned])):
            if value is not None and held.setdefault(value, where) != where:
                raise UserError(
                    f"{folder}: {name} '{value}' is in splits '{held[value]}' and '{where}'; assign people "
                    f"again with: python -m data_pipeline split {folder} --force"
                )

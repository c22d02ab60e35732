"""Writing the manifest: rows of finished shards, what the manifest before knew of their clips, and one way to commit.

The table is written first and the header, which names the table's digest, last. Who writes has the lease `manifest` of
the folder, from reading the table that is changed to the end, on whatever machine: nobody's columns are lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.shards import manifest
from data_pipeline.shards.layout import COLUMNS, sums_name, tar_path
from data_pipeline.shards.manifest import FORMAT, HEADER, PLACES, SCHEMA, TABLE, Manifest
from data_pipeline.storage.store import Store
from data_pipeline.tasks.leases import Leases
from mytalk import atomic
from mytalk.command import RunAgain, UserError
from mytalk.digest import sha256_of

LEASE = "manifest-lease"  # folder beside the manifest while somebody writes it


class Stored(NamedTuple):
    """A manifest as it lies in a folder. Not `consistent`: its writer was killed between the two files."""

    table: pa.Table
    header: dict[str, Any]
    consistent: bool


def stored(folder: Path) -> Stored | None:
    """The manifest in a folder, for a command that writes it anew; None without both files.

    A writer killed between the two files leaves a new table and an old header: each is whole, and what the table holds
    beyond the header is the work of the command that now runs again.
    """
    store = Store(folder)
    try:
        header = manifest.read_header(store)
        opened, digest = manifest.open_table(store)
        with opened:
            table = pq.ParquetFile(pa.PythonFile(opened, "r")).read(use_threads=False)
    except (UserError, pa.ArrowInvalid):
        return None
    return Stored(table, header, digest == header["table"]["sha256"])


def opened(folder: Path) -> tuple[Manifest, bool] | None:
    """The manifest as it lies in a folder, of which nothing is read yet, and whether its two files are of one write."""
    store = Store(folder)
    try:
        header = manifest.read_header(store)
        table, digest = manifest.open_table(store)
        return Manifest(folder, header, opened=table), digest == header["table"]["sha256"]
    except (UserError, pa.ArrowInvalid):
        return None


def planned(folder: Path) -> tuple[Manifest, bool]:
    """The manifest for a command that will change it, and whether it is torn, which the same command may mend.

    A writer was killed between its two files, or is there at this moment. Raises UserError as Manifest.load does.
    """
    found = opened(folder)
    return (found[0], True) if found is not None and not found[1] else (Manifest.load(folder), False)


class Change(NamedTuple):
    """What to write: whole columns, new ones or in the place of those of their names, and the header."""

    columns: Mapping[str, pa.Array | pa.ChunkedArray]
    header: dict[str, Any]


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Nobody else writes the manifest of a folder, here or on another machine; waits for who does."""
    with Leases(folder / LEASE) as leases, leases.alone("manifest"):
        atomic.sweep(folder, (TABLE, HEADER))  # of writers that were killed
        yield


def update(folder: Path, change: Callable[[Manifest], Change]) -> None:
    """Write the manifest with what `change` makes of it, read again when nobody else writes it.

    Some thousand rows at a time; of the table little is in memory. Nothing is written where nothing changed.
    Raises UserError where there is no manifest, or for a leaking split; what `change` raises.
    """
    with alone(folder):
        found = opened(folder)
        if found is None:
            Manifest.load(folder)  # raises what is missing
            raise UserError(f"{folder}: its manifest cannot be read; type the command that wrote it (extract, index)")
        made, consistent = found
        columns, header = change(made)
        if not (consistent and header == made.header and _same(made, columns)):
            _rewrite(made, columns, header)


def refuse_other_clips(made: Manifest, before: Manifest) -> None:
    """RunAgain where a manifest that was read again is of other clips or tars than `before`, whatever its columns."""
    if made.digest == before.digest and len(made) == len(before):
        return
    places = ("shard", "frames", "landmarks_offset")
    if tars(made) != tars(before) or not all(np.array_equal(made.column(name), before.column(name)) for name in places):
        raise RunAgain(f"{made.folder}: its clips are others meanwhile; type the same command again")


def tars(made: Manifest) -> list[list[Any]]:
    """The number of every shard, and the digests of the tars that extraction wrote."""
    shards = made.header.get("shards", [])
    return [[entry["shard"], *(entry.get(name, {}).get("sha256") for name in COLUMNS)] for entry in shards]


def _same(made: Manifest, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> bool:
    """Whether the table has these columns already."""
    if not all(made.has(name) for name in columns):
        return False
    row = 0
    for batch in made.batches([*columns]):
        batch = _plain(batch)
        for name, values in columns.items():
            if not batch[name].equals(_chunked(values.slice(row, len(batch)))):
                return False
        row += len(batch)
    return True


def _chunked(values: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
    return values if isinstance(values, pa.ChunkedArray) else pa.chunked_array([values])


def _rewrite(made: Manifest, columns: Mapping[str, pa.Array | pa.ChunkedArray], header: dict[str, Any]) -> None:
    folder = Path(made.folder)
    with atomic.file(folder / TABLE) as handle:
        writer, row = None, 0
        for batch in made.batches(made.names):
            batch = _plain(batch)
            for name, values in columns.items():
                batch = set_column(batch, name, values.slice(row, len(batch)))
            row += len(batch)
            if writer is None:
                writer = pq.ParquetWriter(handle, batch.schema, write_statistics=False)
            writer.write_table(batch, row_group_size=manifest.GROUP_ROWS)
        assert writer is not None, "a manifest has clips"
        writer.close()
        handle.flush()
        written = Manifest(folder, header, opened=manifest.open_file(handle.name))
        manifest.refuse_leaks(written, folder)
        table = {"sha256": sha256_of(handle.name), "bytes": os.path.getsize(handle.name), "rows": row}
        if not made.in_place():  # whoever took this process for dead has written
            raise RunAgain(f"{folder}: the manifest was rewritten meanwhile; type the same command again")
    atomic.write_json(folder / HEADER, {**header, "format": FORMAT, "table": table})


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, which a reader chooses, and without metadata."""
    for name, kind in zip(table.schema.names, table.schema.types):
        if pa.types.is_dictionary(kind):
            table = set_column(table, name, table[name].cast(kind.value_type))
    return table.replace_schema_metadata(None)


def save(folder: Path, table: pa.Table, header: dict[str, Any]) -> Manifest:
    """Write table and header; returns them as the new manifest. Raises UserError for a leaking split."""
    manifest.refuse_leaks(Manifest(folder, header, table), folder)
    target = io.BytesIO()
    pq.write_table(table, target, row_group_size=manifest.GROUP_ROWS, write_statistics=False)
    data = target.getvalue()
    digest = hashlib.sha256(data).hexdigest()
    header = {**header, "format": FORMAT, "table": {"sha256": digest, "bytes": len(data), "rows": len(table)}}
    atomic.write_bytes(folder / TABLE, data)
    atomic.write_json(folder / HEADER, header)
    return Manifest(folder, header, table)


def commit(folder: Path, table: pa.Table, header: dict[str, Any]) -> None:
    """Write a fresh table and header with what the folder's manifest knows; nothing is written where nothing changed.

    Raises UserError for a leaking split, or a column that is not what it was.
    """
    with alone(folder):
        before = stored(folder)
        if before is not None:
            table, header = carry_over(table, header, before.table, before.header)
            annotations = {**header.get(manifest.ANNOTATIONS, {}), **before.header.get(manifest.ANNOTATIONS, {})}
            header = {**before.header, **header, **({manifest.ANNOTATIONS: annotations} if annotations else {})}
        table = table.combine_chunks().replace_schema_metadata(None)
        if before != Stored(table, header, consistent=True):
            save(folder, table, header)


def carry_over(
    table: pa.Table, header: dict[str, Any], old_table: pa.Table, old_header: dict[str, Any]
) -> tuple[pa.Table, dict[str, Any]]:
    """A fresh table and header with what an old manifest knows of the same clips (by key). A new clip has nothing.

    A shard is the same where its motion tar is. The split is the old one, where there is one. A fact that both have is
    the old one in the same shards and the fresh one elsewhere; where they are of different kinds it is the fresh one.
    Later columns stay those of the same shards; other clips have the fresh one, or a place of 0 bytes.
    Raises UserError where both have a column of one name and of other widths.
    """
    row_of = {key: row for row, key in enumerate(old_table["key"].to_pylist())}
    old_rows = pa.array([row_of.get(key) for key in table["key"].to_pylist()], pa.int64())
    header, same = _same_shards(header, old_header)
    members, members_before = header.get("members", {}), old_header.get("members", {})
    member_of = {name: member for member in members_before for name in place_names(member)}

    split = old_table["split"].take(old_rows)
    split = pc.if_else(pc.equal(split, ""), None, split)
    table = set_column(table, "split", pc.coalesce(split, table["split"], ""))
    for name in old_table.column_names:
        values = old_table[name].take(old_rows)
        if name in member_of:
            shards = [s for s, entry in same.items() if members_before[member_of[name]]["column"] in entry]
            fresh = table[name].fill_null(0) if member_of[name] in members and name in table.column_names else 0
            values = pc.if_else(_rows_in(table, shards), values.fill_null(0), fresh)
        elif name in SCHEMA.names:
            continue
        elif name in table.column_names:
            fresh = table[name]
            if kind(values.type) != kind(fresh.type):
                continue
            values = pc.if_else(_rows_in(table, [*same]), pc.coalesce(values, fresh), pc.coalesce(fresh, values))
        table = set_column(table, name, values)
    members = merged_members(members, members_before, "the manifest")
    return table, {**header, "members": members} if members else header


def _same_shards(header: dict[str, Any], old_header: dict[str, Any]) -> tuple[dict[str, Any], dict[int, Any]]:
    """The header with the later columns of the shards that are the same, and the old entries of those shards."""
    before = {entry["shard"]: entry for entry in old_header.get("shards", []) if "motion" in entry}
    entries, same = [], {}
    for entry in header["shards"]:
        old = before.get(entry["shard"])
        if old is not None and old["motion"]["sha256"] == entry["motion"]["sha256"]:
            same[entry["shard"]] = old
            entry = {**entry, **{name: stated for name, stated in old.items() if name not in ("shard", *COLUMNS)}}
        entries.append(entry)
    return {**header, "shards": entries}, same


def _rows_in(table: pa.Table, shards: list[int]) -> pa.Array:
    return pa.array(np.isin(table["shard"].to_numpy(), shards))


def place_names(member: str) -> tuple[str, str]:
    """Columns of the table that say where a member's bytes lie."""
    return f"{member}_offset", f"{member}_size"


def merged_members(members: dict[str, Any], more: dict[str, Any], where: str) -> dict[str, Any]:
    """What two headers say of later members. Raises UserError where they differ on one."""
    for member, stated in more.items():
        if members.get(member, stated) != stated:
            raise UserError(f"{where}: column '{member}' is not what it is elsewhere ({stated} and {members[member]})")
    return {**members, **more}


def set_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """The table with a column, in the place of one of that name or behind all."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def kind(data_type: pa.DataType) -> str:
    """What a column holds, for comparison and for messages."""
    if pa.types.is_boolean(data_type):
        return "true or false"
    if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
        return "numbers"
    return "text" if pa.types.is_string(data_type) or pa.types.is_large_string(data_type) else str(data_type)


# Parts: what a writer of shards leaves behind each finished shard ------------------------------------------


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

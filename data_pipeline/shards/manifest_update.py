"""Writing the manifest: one way to change it, and one to write it afresh with what the one before knew of its clips.

The table is written first and the header, which names the table's digest, last. Who writes has the lease `manifest` of
the folder, from reading the table that is changed to the end, on whatever machine: nobody's columns are lost.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.shards.layout import COLUMNS
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import files, leaks, merging
from data_pipeline.shards.table.schema import ANNOTATIONS, FORMAT, GROUP_ROWS, HEADER, TABLE
from data_pipeline.storage.inputs import is_remote
from data_pipeline.storage.store import Store
from data_pipeline.tasks.leases import Leases
from mytalk import atomic
from mytalk.command import RunAgain, UserError
from mytalk.digest import sha256_of

LEASE = "manifest-lease"  # folder beside the manifest while somebody writes it


def local_shards(place: str) -> Path:
    """The folder of shards that a command adds to: an argument's type. Raises ArgumentTypeError for a URL."""
    if is_remote(place):
        raise argparse.ArgumentTypeError(
            f"{place} is remote, and this writes into a folder; make one over it, and name that: "
            f"python -m data_pipeline index data/mine {place}"
        )
    return Path(place)


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
        header = files.read_header(store)
        opened, digest = files.open_table(store)
        with opened:
            table = pq.ParquetFile(pa.PythonFile(opened, "r")).read(use_threads=False)
    except (UserError, pa.ArrowInvalid):
        return None
    return Stored(table, header, digest == header["table"]["sha256"])


def opened(folder: Path) -> tuple[Manifest, bool] | None:
    """The manifest as it lies in a folder, of which nothing is read yet, and whether its two files are of one write."""
    store = Store(folder)
    try:
        header = files.read_header(store)
        table, digest = files.open_table(store)
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
    if not (folder / HEADER).is_file():
        Manifest.load(folder)  # raises what is missing, before a lease makes the folder
    with alone(folder):
        found = opened(folder)
        if found is None:
            Manifest.load(folder)  # raises what is wrong
            raise UserError(f"{folder}: its manifest cannot be read; type the command that wrote it (extract, index)")
        manifest, consistent = found
        columns, header = change(manifest)
        if not (consistent and header == manifest.header and _same(manifest, columns)):
            _write(folder, _changed(manifest, columns), header, manifest.in_place)


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


def _changed(made: Manifest, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> Iterator[pa.Table]:
    """All rows with these whole columns set, some thousand at a time."""
    row = 0
    for batch in made.batches(made.names):
        batch = _plain(batch)
        for name, values in columns.items():
            batch = merging.set_column(batch, name, values.slice(row, len(batch)))
        row += len(batch)
        yield batch


def _plain(table: pa.Table) -> pa.Table:
    """The table without dictionaries, which a reader chooses, and without metadata."""
    for name, kind in zip(table.schema.names, table.schema.types):
        if pa.types.is_dictionary(kind):
            table = merging.set_column(table, name, table[name].cast(kind.value_type))
    return table.replace_schema_metadata(None)


def save(folder: Path, table: pa.Table, header: dict[str, Any]) -> Manifest:
    """Write table and header; returns them as the new manifest. Raises UserError for a leaking split."""
    return Manifest(folder, _write(folder, [table], header), table)


def _write(
    folder: Path, pieces: Iterable[pa.Table], header: dict[str, Any], still: Callable[[], bool] = lambda: True
) -> dict[str, Any]:
    """Write table and header; returns the header. Nothing is written where a split leaks, or not `still` at the end."""
    with atomic.file(folder / TABLE) as handle:
        writer, rows = None, 0
        for piece in pieces:
            writer = writer or pq.ParquetWriter(handle, piece.schema, write_statistics=False)
            writer.write_table(piece, row_group_size=GROUP_ROWS)
            rows += len(piece)
        assert writer is not None, "a manifest has clips"
        writer.close()
        handle.flush()
        leaks.refuse_leaks(Manifest(folder, header, opened=files.open_file(handle.name)), folder)
        table = {"sha256": sha256_of(handle.name), "bytes": os.path.getsize(handle.name), "rows": rows}
        if not still():  # whoever took this process for dead has written
            raise RunAgain(f"{folder}: the manifest was rewritten meanwhile; type the same command again")
    header = {**header, "format": FORMAT, "table": table}
    atomic.write_json(folder / HEADER, header)
    return header


def commit(folder: Path, table: pa.Table, header: dict[str, Any]) -> None:
    """Write a fresh table and header with what the folder's manifest knows; nothing is written where nothing changed.

    Raises UserError for a leaking split, or a column that is not what it was.
    """
    with alone(folder):
        before = stored(folder)
        if before is not None:
            table, header = merging.carry_over(table, header, before.table, before.header)
            annotations = {**header.get(ANNOTATIONS, {}), **before.header.get(ANNOTATIONS, {})}
            header = {**before.header, **header, **({ANNOTATIONS: annotations} if annotations else {})}
        table = table.combine_chunks().replace_schema_metadata(None)
        if before != Stored(table, header, consistent=True):
            save(folder, table, header)

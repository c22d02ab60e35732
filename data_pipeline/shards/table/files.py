"""The two files of a manifest: reading its header, and opening its table."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import IO, Any

from data_pipeline.shards.table.schema import FORMAT, HEADER, TABLE
from data_pipeline.storage.positioned import LocalFile
from data_pipeline.storage.store import Store
from mytalk.command import UserError


def read_header(store: Store) -> dict[str, Any]:
    """manifest.json of a folder. Raises UserError where it is missing, no JSON, or of another format. OSError."""
    try:
        header = json.loads(store.whole(HEADER))
    except FileNotFoundError:
        raise UserError(_make_one(store, HEADER)) from None
    except ValueError:
        raise UserError(f"{store.shown}/{HEADER} is not JSON; type the extract command again") from None
    if header.get("format") != FORMAT:
        raise UserError(
            f"{store.shown}/{HEADER} has format {header.get('format')}, this version reads {FORMAT}; "
            "extract into another folder"
        )
    return header


def open_file(path: str | Path) -> IO[bytes]:
    """A table's file, open for the processes of this machine."""
    return LocalFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))  # type: ignore[return-value]


def open_table(store: Store) -> tuple[IO[bytes], str]:
    """The table's file, open, and its SHA-256. A remote one is brought to a temporary file that has no name.

    What is open stays as it is while another command puts a new table in its place.
    """
    if store.local:
        try:
            descriptor = os.open(Path(store.root) / TABLE, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise UserError(_make_one(store, TABLE)) from None
    else:
        with tempfile.TemporaryFile() as brought:
            try:
                brought.write(store.whole(TABLE))
            except FileNotFoundError:
                raise UserError(_make_one(store, TABLE)) from None
            brought.flush()
            descriptor = os.dup(brought.fileno())
    opened = LocalFile(descriptor)
    digest = hashlib.sha256()
    while piece := opened.read(1 << 20):
        digest.update(piece)
    opened.seek(0)
    return opened, digest.hexdigest()  # type: ignore[return-value]


def _make_one(store: Store, name: str) -> str:
    return f"{store.shown}/{name} is missing; make it with: python -m data_pipeline extract VIDEOS {store.shown}"

"""Shards that go to a URL as they are made: the tars are sent, then the part commits them, then they leave the disk.

The folder keeps what says which shards there are (parts, lists, ledgers and the manifest), so that the same command
continues; the tables are sent at the end. Sending the same shard twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_pipeline.extract.listing import sources
from data_pipeline.extract.work.protocol import PROTOCOL
from data_pipeline.shards import ledger, throughput
from data_pipeline.shards.layout import part_path, rejected_path, sums_name, tar_path
from data_pipeline.shards.table.schema import HEADER, TABLE
from data_pipeline.storage.store import Store

LISTS = (sources.FILE, PROTOCOL, ledger.FILE, throughput.FILE)
TABLES = (*LISTS, TABLE, HEADER)  # the header last: it names the table


def send_shard(out: Path, shard: int, columns: Iterable[str], to: str) -> None:
    """Send a shard's tars and checksums, and the pictures of what was rejected, and remove them here."""
    store = Store(to)
    tars = [path for name in columns for path in (tar_path(out, name, shard), out / sums_name(name, shard))]
    for path in [*tars, rejected_path(out, shard)]:
        if path.exists():
            store.put(path, path.relative_to(out).as_posix())
            path.unlink()


def send_list(out: Path, to: str) -> None:
    """Send the list of sources, which exists before any shard: a URL that takes nothing is refused then."""
    Store(to).put(out / sources.FILE, sources.FILE)


def send_tables(out: Path, to: str) -> None:
    """Send what the folder keeps."""
    store = Store(to)
    for path in [*sorted(part_path(out, 0).parent.glob("*.json")), *(out / name for name in TABLES)]:
        if path.exists():
            store.put(path, path.relative_to(out).as_posix())

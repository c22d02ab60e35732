"""Builds the manifest and the ledger of an index from third-party tars and existing shard folders, shard by shard."""

from __future__ import annotations

import collections
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.index import third_party
from data_pipeline.index.field_mapping import FieldMapping
from data_pipeline.shards.ledger import FILE as LEDGER
from data_pipeline.shards.ledger import LedgerError
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.merging import kind, merged_members, place_names, set_column
from data_pipeline.shards.table.schema import ANNOTATIONS, SCHEMA
from data_pipeline.storage.inputs import is_remote
from mytalk import atomic
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ

KEPT, REJECTED, MERGED = "kept", "rejected", "merged"


@dataclass(frozen=True)
class ShardSource:
    """Where one shard of an index lies: a tar, and the tar of its videos where that is another; or a folder's shard.

    Names are relative to OUT where the file lies below OUT's parent, else absolute; a remote folder's is its URL.
    """

    tar: str = ""
    frames: str = ""
    folder: str = ""
    shard: int = 0

    def listed(self) -> dict[str, Any]:
        """As the manifest's header lists it."""
        return {name: value for name, value in vars(self).items() if value != "" and (self.folder or name != "shard")}


class IndexBuilder:
    """The tables and the ledger of an index, which grow shard by shard: shard i is `sources[i]`."""

    def __init__(self, out: Path, manifests: dict[str, Manifest]):
        self.out, self.manifests = out, manifests
        self.sources: list[ShardSource] = []
        self.tables: list[pa.Table] = []
        self.shards: list[dict[str, Any]] = []
        self.members: dict[str, Any] = {}
        self.lines: list[dict[str, Any]] = []
        self.damaged: list[tuple[ShardSource, dict[str, Any]]] = []
        self.states: collections.Counter[str] = collections.Counter()
        self.samples = 0  # of all tars
        self._source_of: dict[str, ShardSource] = {}  # by key
        self._kinds: dict[str, tuple[str, str]] = {}  # of columns that extract does not know: kind, source
        for name, manifest in manifests.items():
            self.members = merged_members(self.members, manifest.header.get("members", {}), name)

    # A tar

    def add_tar(self, source: ShardSource, head: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Add the samples of a tar, each kept, or rejected with a reason. A damaged tar is rejected as a whole."""
        if "reason" in head:
            self.damaged.append((source, head))
            self.lines.append(
                {"tar": source.tar, "state": REJECTED} | {name: head[name] for name in ("reason", "message")}
            )
            return
        shard = len(self.sources)
        self.sources.append(source)
        rows, lines = [], []
        for sample in samples:
            line = {"key": sample["key"], "shard": shard, "state": KEPT}
            if "reason" in sample:
                line |= {"state": REJECTED, "reason": sample["reason"], "message": sample["message"]}
            elif sample["key"] in self._source_of:
                first = self._source_of[sample["key"]]
                message = f"a clip in {first.tar or first.folder} has the same key"
                line |= {"state": REJECTED, "reason": "duplicate_key", "message": message}
            else:
                self._source_of[sample["key"]] = source
                rows.append({**sample, "shard": shard})
            lines.append(line)
        self.samples += len(lines)
        self.states.update(line.get("reason", KEPT) for line in lines)
        self.lines.append(
            {"tar": source.tar, "shard": shard, "state": "indexed", "kept": len(rows), "found": len(lines)}
        )
        self.lines += lines
        if rows:
            self.shards.append({"shard": shard, **head["columns"]})
            self.tables.append(self._with_facts(pa.Table.from_pylist(rows, schema=SCHEMA), source, rows))

    def _with_facts(self, table: pa.Table, source: ShardSource, rows: list[dict[str, Any]]) -> pa.Table:
        """The table with a column for each further fact. The first clip that has one decides its kind."""
        for name in dict.fromkeys(name for row in rows for name in row["extra"]):
            if name not in self._kinds and len(self._kinds) >= third_party.MOST_EXTRA:
                continue
            values = [row["extra"].get(name) for row in rows]
            first = next(value for value in values if value is not None)
            known, _ = self._kinds.setdefault(name, (_kind_of(first), source.tar))
            values = [value if value is not None and _kind_of(value) == known else None for value in values]
            if any(isinstance(value, float) for value in values):
                values = [None if value is None else float(value) for value in values]
            table = table.append_column(name, pa.array(values))
        return table

    # A shard of a folder

    def add_folder_shard(self, source: ShardSource) -> None:
        """Add a shard of an existing folder. Raises UserError for a key that another source has."""
        shard, manifest = len(self.sources), self.manifests[source.folder]
        self.sources.append(source)
        shard_n = manifest.column("shard")
        start, stop = np.searchsorted(shard_n, [source.shard, source.shard + 1]).tolist()
        table = manifest.table.slice(start, stop - start)
        for key in table["key"].to_pylist():
            if key in self._source_of:
                first = self._source_of[key]
                raise UserError(
                    f"clip {key} is in {first.folder or first.tar} and in {source.folder}; leave one of them out, or "
                    "make one of them again with another --corpus"
                )
            self._source_of[key] = source
        entries = {n: self._entry(source, n, e) for n, e in manifest.entry(source.shard).items() if n != "shard"}
        self.shards.append({"shard": shard, **entries})
        self.tables.append(self._folder_rows(table, source, shard))
        self.states[MERGED] += len(table)
        self.lines.append(
            {"folder": source.folder, "shard": shard, "of": source.shard, "state": MERGED, "clips": len(table)}
        )

    def _entry(self, source: ShardSource, name: str, entry: dict[str, Any]) -> dict[str, Any]:
        """The entry of a tar in a header, with file and checksums named relative to OUT."""
        file = self.manifests[source.folder].shard_file(name, source.shard)
        entry = {**entry, "file": self._from_out(source, file.name)}
        return entry if file.sums is None else {**entry, "crc": self._from_out(source, file.sums)}

    def _from_out(self, source: ShardSource, name: str) -> str:
        if is_remote(name) or os.path.isabs(name):
            return name
        if is_remote(source.folder):
            return f"{source.folder}/{name}"
        return named(self.out / source.folder / name, self.out)

    def _folder_rows(self, table: pa.Table, source: ShardSource, shard: int) -> pa.Table:
        """Rows of a folder with the shard's new number, as the index types them. Raises UserError."""
        columns = {}
        for field in SCHEMA:
            known = field.name in table.column_names  # unless the fact is newer than the folder
            columns[field.name] = table[field.name].cast(field.type) if known else pa.nulls(len(table), field.type)
        columns["shard"] = pa.array(np.full(len(table), shard, np.int32))
        for name in table.column_names:
            if name in columns:
                continue
            values = table[name]
            if pa.types.is_dictionary(values.type):
                values = values.cast(values.type.value_type)
            own = kind(values.type)
            expected, first = self._kinds.setdefault(name, (own, source.folder))
            if own != expected:
                raise UserError(
                    f"column '{name}' holds {expected} in {first} and {own} in {source.folder}; write one of them again"
                )
            columns[name] = values
        return pa.table(columns)

    # All of it

    def table(self, unsplit: bool) -> pa.Table:
        """All rows. What a source does not have is null; a member that it does not have, 0 bytes."""
        if not self.tables:
            return SCHEMA.empty_table()
        table = pa.concat_tables(self.tables, promote_options="permissive")
        for member in self.members:
            for name in place_names(member):
                table = set_column(table, name, table[name].fill_null(0))
        if unsplit:
            table = set_column(table, "split", pa.array([""] * len(table)))
            table = table.drop_columns([name for name in ("duplicate_group",) if name in table.column_names])
        return table

    def header(self, unsplit: bool, mapping: FieldMapping | None) -> dict[str, Any]:
        """The manifest's header. Its split is that of the first folder that has one."""
        protocol: dict[str, Any] = {"frame_hz": FRAME_HZ, "sample_hz": SAMPLE_HZ}
        if mapping is not None:
            protocol["crop_px"] = mapping.crop_px
        folders = {name: _said_of(manifest) for name, manifest in self.manifests.items()}
        header: dict[str, Any] = {"protocol": {**protocol, "folders": folders}, "shards": self.shards}
        if alike := self._annotated_alike():
            header[ANNOTATIONS] = alike
        if self.members:
            header["members"] = self.members
        splits = [manifest.header["split"] for manifest in self.manifests.values() if "split" in manifest.header]
        return {**header, "split": splits[0]} if splits and not unsplit else header

    def _annotated_alike(self) -> dict[str, Any]:
        """The annotations that all shards have, made by the same: their columns are this manifest's too."""
        if any(source.tar for source in self.sources):
            return {}
        of_folders = [manifest.header.get(ANNOTATIONS, {}) for manifest in self.manifests.values()]
        first = of_folders[0] if of_folders else {}
        return {name: said for name, said in first.items() if all(one.get(name) == said for one in of_folders)}

    def check(self, table: pa.Table) -> None:
        """Raises LedgerError unless every sample has one state and every kept one is a row."""
        rejected = sum(count for state, count in self.states.items() if state not in (KEPT, MERGED))
        if self.samples != self.states[KEPT] + rejected:
            raise LedgerError(f"{self.samples} samples, {self.states[KEPT]} kept and {rejected} rejected")
        if len(table) != self.states[KEPT] + self.states[MERGED] or len(table) != len(self._source_of):
            raise LedgerError(f"{len(table)} rows, {self.states[KEPT]} kept and {self.states['merged']} merged")

    def write_ledger(self) -> None:
        """Write OUT/ledger.jsonl: a line for a tar, then one for each of its samples; a line for a folder's shard."""
        with atomic.file(self.out / LEDGER, "w") as handle:
            for line in self.lines:
                handle.write(json.dumps(line, sort_keys=True) + "\n")

    def summary(self, table: pa.Table) -> str:
        """Tars and samples by state, clips and hours."""
        lines = []
        tars = sum(bool(source.tar) for source in self.sources)
        if tars or self.damaged:
            reasons = _counted(collections.Counter(head["reason"] for _, head in self.damaged))
            damaged = len(self.damaged)
            lines.append(f"tars     {tars + damaged} = {tars} indexed + {damaged} rejected{reasons}")
            rejected = {state: count for state, count in self.states.items() if state not in (KEPT, MERGED)}
            kept = self.states[KEPT]
            lines.append(f"samples  {self.samples} = {kept} kept + {self.samples - kept} rejected{_counted(rejected)}")
        if self.manifests:
            lines.append(f"folders  {len(self.manifests)}, {self.states['merged']} clips")
        hours = (pc.sum(table["frames"]).as_py() or 0) / FRAME_HZ / 3600
        return "\n".join([*lines, f"clips    {len(table)}, {hours:.3g} hours"])


def named(path: Path, out: Path) -> str:
    """The name of a file or folder in OUT: relative where it lies below OUT's parent, else absolute."""
    real, base = path.parent.resolve() / path.name, out.resolve()
    if path.name in ("", ".", ".."):
        real = path.resolve()
    return Path(os.path.relpath(real, base)).as_posix() if real.is_relative_to(base.parent) else str(real)


def _said_of(manifest: Manifest) -> dict[str, Any]:
    """The protocol of a folder, and what made its annotations."""
    annotations = manifest.header.get(ANNOTATIONS)
    return {**manifest.header.get("protocol", {}), **({ANNOTATIONS: annotations} if annotations else {})}


def _kind_of(value: Any) -> str:
    return kind(pa.scalar(value).type)


def _counted(reasons: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f" ({listed})" if listed else ""

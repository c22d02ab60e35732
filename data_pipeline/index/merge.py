"""The manifest of an index, and its ledger, shard by shard: tars of others, and shards of folders of ours."""

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
from data_pipeline.index.third_party import FieldMapping
from data_pipeline.shards.ledger import FILE as LEDGER
from data_pipeline.shards.ledger import LedgerError
from data_pipeline.shards.manifest import SCHEMA, Manifest
from data_pipeline.shards.manifest_update import kind, merged_members, place_names, set_column
from mytalk import atomic
from mytalk.command import UserError
from mytalk.face.landmarks import FRAME_HZ, SAMPLE_HZ

KEPT, REJECTED, MERGED = "kept", "rejected", "merged"


@dataclass(frozen=True)
class ShardSource:
    """What becomes one shard. A tar, and the tar of its videos where that is another; or a shard of a folder of ours.

    Names are relative to OUT where the file lies below OUT's parent, else absolute.
    """

    tar: str = ""
    frames: str = ""
    folder: str = ""
    shard: int = 0

    def listed(self) -> dict[str, Any]:
        """As the list holds it."""
        return {name: value for name, value in vars(self).items() if value != "" and (self.folder or name != "shard")}


class IndexBuilder:
    """Tables and ledger of an index, as they grow shard by shard. A unit that is listed is the shard of its place."""

    def __init__(self, out: Path, of_folders: dict[str, Manifest]):
        self.out, self.of_folders = out, of_folders
        self.units: list[ShardSource] = []
        self.tables: list[pa.Table] = []
        self.shards: list[dict[str, Any]] = []
        self.members: dict[str, Any] = {}
        self.lines: list[dict[str, Any]] = []
        self.damaged: list[tuple[ShardSource, dict[str, Any]]] = []
        self.states: collections.Counter[str] = collections.Counter()
        self.found = 0
        self._owner: dict[str, ShardSource] = {}  # of each key
        self._kinds: dict[str, tuple[str, str]] = {}  # of columns that extract does not know: kind, where from
        for name, made in of_folders.items():
            self.members = merged_members(self.members, made.header.get("members", {}), name)

    # A tar

    def judge(self, unit: ShardSource, head: dict[str, Any], samples: list[dict[str, Any]]) -> None:
        """Take what was found in a tar: each sample is kept, or rejected with a reason; or the whole tar is."""
        if "reason" in head:
            self.damaged.append((unit, head))
            self.lines.append(
                {"tar": unit.tar, "state": REJECTED} | {name: head[name] for name in ("reason", "message")}
            )
            return
        shard = len(self.units)
        self.units.append(unit)
        rows, lines = [], []
        for sample in samples:
            line = {"key": sample["key"], "shard": shard, "state": KEPT}
            if "reason" in sample:
                line |= {"state": REJECTED, "reason": sample["reason"], "message": sample["message"]}
            elif sample["key"] in self._owner:
                owner = self._owner[sample["key"]]
                message = f"its key is that of a clip in {owner.tar or owner.folder}"
                line |= {"state": REJECTED, "reason": "duplicate_key", "message": message}
            else:
                self._owner[sample["key"]] = unit
                rows.append({**sample, "shard": shard})
            lines.append(line)
        self.found += len(lines)
        self.states.update(line.get("reason", KEPT) for line in lines)
        self.lines.append({"tar": unit.tar, "shard": shard, "state": "indexed", "kept": len(rows), "found": len(lines)})
        self.lines += lines
        if rows:
            self.shards.append({"shard": shard, **head["columns"]})
            self.tables.append(self._extended(pa.Table.from_pylist(rows, schema=SCHEMA), unit, rows))

    def _extended(self, table: pa.Table, unit: ShardSource, rows: list[dict[str, Any]]) -> pa.Table:
        """With a column for each further fact. The first clip that has one says of which kind it is."""
        for name in dict.fromkeys(name for row in rows for name in row["extra"]):
            if name not in self._kinds and len(self._kinds) >= third_party.MOST_EXTRA:
                continue
            values = [row["extra"].get(name) for row in rows]
            first = next(value for value in values if value is not None)
            known, _ = self._kinds.setdefault(name, (_kind_of(first), unit.tar))
            values = [value if value is not None and _kind_of(value) == known else None for value in values]
            if any(isinstance(value, float) for value in values):
                values = [None if value is None else float(value) for value in values]
            table = table.append_column(name, pa.array(values))
        return table

    # A shard of a folder

    def merge(self, unit: ShardSource) -> None:
        """Take a shard of a folder of ours. Raises UserError for a key that is there already."""
        shard, made = len(self.units), self.of_folders[unit.folder]
        self.units.append(unit)
        shard_n = made.column("shard")
        start, stop = np.searchsorted(shard_n, [unit.shard, unit.shard + 1]).tolist()
        table = made.table.slice(start, stop - start)
        for key in table["key"].to_pylist():
            if key in self._owner:
                owner = self._owner[key]
                raise UserError(
                    f"clip {key} is in {owner.folder or owner.tar} and in {unit.folder}; leave one of them out, or "
                    "make one anew with another --corpus"
                )
            self._owner[key] = unit
        entry = made.entry(unit.shard)
        stated = {name: self._moved(unit, name, told) for name, told in entry.items() if name != "shard"}
        self.shards.append({"shard": shard, **stated})
        self.tables.append(self._of_ours(table, unit, shard))
        self.states[MERGED] += len(table)
        self.lines.append(
            {"folder": unit.folder, "shard": shard, "of": unit.shard, "state": MERGED, "clips": len(table)}
        )

    def _moved(self, unit: ShardSource, name: str, told: dict[str, Any]) -> dict[str, Any]:
        """What a header says of a tar, with file and checksums named from OUT."""
        file = self.of_folders[unit.folder].shard_file(name, unit.shard)
        made = {**told, "file": self._from_out(unit, file.name)}
        return made if file.sums is None else {**made, "crc": self._from_out(unit, file.sums)}

    def _from_out(self, unit: ShardSource, name: str) -> str:
        if "://" in name or os.path.isabs(name):
            return name
        return named(self.out / unit.folder / name, self.out)

    def _of_ours(self, table: pa.Table, unit: ShardSource, shard: int) -> pa.Table:
        """Rows of a folder with our shard's number, and columns of the types of ours. Raises UserError."""
        columns = {}
        for field in SCHEMA:
            there = field.name in table.column_names  # not a fact that is newer than the folder
            columns[field.name] = table[field.name].cast(field.type) if there else pa.nulls(len(table), field.type)
        columns["shard"] = pa.array(np.full(len(table), shard, np.int32))
        for name in table.column_names:
            if name in columns:
                continue
            values = table[name]
            if pa.types.is_dictionary(values.type):
                values = values.cast(values.type.value_type)
            held = kind(values.type)
            known, where = self._kinds.setdefault(name, (held, unit.folder))
            if held != known:
                raise UserError(
                    f"column '{name}' holds {known} in {where} and {held} in {unit.folder}; write one of them again"
                )
            columns[name] = values
        return pa.table(columns)

    # All of it

    def united(self, unsplit: bool) -> pa.Table:
        """All rows; what a source does not know is missing, and a later column's place is one of 0 bytes."""
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

    def header(self, unsplit: bool, rules: FieldMapping | None) -> dict[str, Any]:
        """What the shards are and how they were made. The split is as the first folder that has one states it."""
        protocol: dict[str, Any] = {"frame_hz": FRAME_HZ, "sample_hz": SAMPLE_HZ}
        if rules is not None:
            protocol["crop_px"] = rules.crop_px
        folders = {name: made.header.get("protocol", {}) for name, made in self.of_folders.items()}
        made: dict[str, Any] = {"protocol": {**protocol, "folders": folders}, "shards": self.shards}
        if self.members:
            made["members"] = self.members
        splits = [made.header["split"] for made in self.of_folders.values() if "split" in made.header]
        return {**made, "split": splits[0]} if splits and not unsplit else made

    def balance(self, table: pa.Table) -> None:
        """Raises LedgerError unless every sample ended in one state and every kept one is a row."""
        rejected = sum(count for state, count in self.states.items() if state not in (KEPT, MERGED))
        if self.found != self.states[KEPT] + rejected:
            raise LedgerError(f"{self.found} samples, {self.states[KEPT]} kept and {rejected} rejected")
        if len(table) != self.states[KEPT] + self.states[MERGED] or len(table) != len(self._owner):
            raise LedgerError(f"{len(table)} rows, {self.states[KEPT]} kept and {self.states['merged']} merged")

    def write(self) -> None:
        """Write OUT/ledger.jsonl: a line for a tar, then one for each of its samples; a line for a folder's shard."""
        with atomic.file(self.out / LEDGER, "w") as handle:
            for line in self.lines:
                handle.write(json.dumps(line, sort_keys=True) + "\n")

    def in_words(self, table: pa.Table) -> str:
        """The closing lines: tars and samples by state, clips and hours."""
        lines = []
        tars = sum(bool(unit.tar) for unit in self.units)
        if tars or self.damaged:
            why = _counted(collections.Counter(head["reason"] for _, head in self.damaged))
            lines.append(f"tars     {tars + len(self.damaged)} = {tars} indexed + {len(self.damaged)} rejected{why}")
            reasons = {state: count for state, count in self.states.items() if state not in (KEPT, MERGED)}
            kept = self.states[KEPT]
            lines.append(f"samples  {self.found} = {kept} kept + {self.found - kept} rejected{_counted(reasons)}")
        if self.of_folders:
            lines.append(f"folders  {len(self.of_folders)}, {self.states['merged']} clips")
        hours = (pc.sum(table["frames"]).as_py() or 0) / FRAME_HZ / 3600
        return "\n".join([*lines, f"clips    {len(table)}, {hours:.3g} hours"])


def named(path: Path, out: Path) -> str:
    """A file's or folder's name as OUT refers to it: relative where it lies below OUT's parent, else absolute."""
    real, base = path.parent.resolve() / path.name, out.resolve()
    if path.name in ("", ".", ".."):
        real = path.resolve()
    return Path(os.path.relpath(real, base)).as_posix() if real.is_relative_to(base.parent) else str(real)


def _kind_of(value: Any) -> str:
    return kind(pa.scalar(value).type)


def _counted(reasons: Mapping[str, int]) -> str:
    listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f" ({listed})" if listed else ""

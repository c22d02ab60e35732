"""What a fresh table takes over from the one before, by the keys of the clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline.shards.layout import COLUMNS
from data_pipeline.shards.table.schema import SCHEMA
from mytalk.command import UserError


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

"""A later column: features of every clip, in tars of their own next to existing shards.

`mel-000003.tar` has the same keys in the same order as `motion-000003.tar`: `KEY.mel.npy`, fp16, a row of values for
each frame of 25 Hz, so that a window is a byte range. A shard of the column is committed by `parts/mel-000003.json`,
which is written last; the manifest names the column when all shards have it.

Shape suffixes: B batch, T frames, S audio samples, D values per frame.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.shards import manifest_update
from data_pipeline.shards import writer as shards
from data_pipeline.shards.layout import COLUMNS, MEMBERS, tar_path
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.manifest_update import place_names, set_column
from data_pipeline.shards.reader import ClipError
from mytalk import atomic
from mytalk.command import UserError
from mytalk.machine import sole_user
from mytalk.progress import Progress

Values = Callable[[Manifest, int], np.ndarray]  # (manifest, row) -> values of a clip, (T, width)


@dataclass(frozen=True)
class Added:
    """What `add` did."""

    clips: int  # of the column
    written: int  # of them, by this call
    damaged: list[str]  # keys of clips that could not be read


def add(
    folder: Path, name: str, values: Values, width: int, of: str = "", made_by: dict[str, Any] | None = None
) -> Added:
    """Write the column `name`, `width` values a frame, for every shard that lacks it, and enter it in the manifest.

    Values must be finite as fp16. Where `values` raises ClipError the clip gets NaN, and readers take another clip in
    its place. Values `of` "audio" are shifted with the sound when read. Killed anywhere, the same call continues.
    `made_by` says what made the values, with digests: a column that others made is refused.
    Raises UserError for a name that is taken, or a manifest that changed meanwhile, ValueError for wrong values,
    OSError.
    """
    refuse_name(name)
    if width < 1:
        raise ValueError(f"a column of {width} values a frame holds nothing")
    with sole_user(folder, "column"):
        atomic.sweep(folder)
        atomic.sweep(folder / "parts")
        manifest = _opened(folder)
        made = {"made_by": made_by} if made_by else {}
        entry = {"column": name, "width": width, **({"of": of} if of else {}), **made}
        _refuse_taken(manifest, name, entry)
        shard_n = manifest.column("shard")
        first = np.flatnonzero(np.diff(shard_n, prepend=-1))
        ranges = list(zip(shard_n[first].tolist(), first.tolist(), [*first[1:].tolist(), len(shard_n)]))
        complete = {entry["shard"] for entry in manifest.header["shards"] if name in entry}
        todo = [one for one in ranges if one[0] not in complete]
        parts = {
            shard: _finished(manifest, name, width, shard, range(start, stop), made) for shard, start, stop in todo
        }
        clips_todo = sum(stop - start for shard, start, stop in todo if parts[shard] is None)
        progress = Progress(name, len(manifest), "clips", done=len(manifest) - clips_todo)
        for shard, start, stop in todo:
            if parts[shard] is None:
                parts[shard] = _write(manifest, name, values, width, shard, range(start, stop), progress, made)
        if clips_todo:
            progress.finish()
        if todo or name not in manifest.header.get("members", {}):
            _enter(manifest, name, entry, {shard: part for shard, part in parts.items() if part is not None})
        damaged = [key for part in parts.values() if part for key in part["damaged"]]
        return Added(len(manifest), clips_todo, damaged)


def refuse_name(name: str) -> None:
    """Raises UserError for a text that cannot name a column."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) or name in (*COLUMNS, *MEMBERS):
        raise UserError(f"'{name}' cannot name a column; use small letters, digits and _, and no name of a member")


def _opened(folder: Path) -> Manifest:
    """The manifest, also if its writer was killed between table and header: this column's write then repairs it."""
    stored = manifest_update.stored(folder)
    if stored is None or stored.consistent:
        return Manifest.load(folder)
    return Manifest(folder, stored.header, stored.table)


def _refuse_taken(manifest: Manifest, name: str, entry: dict[str, Any]) -> None:
    earlier = manifest.header.get("members", {}).get(name)
    begun = any((Path(manifest.folder) / "parts").glob(f"{name}-*.json"))  # by a writer that was killed
    if earlier is None and not begun and {*place_names(name)} & {*manifest.names}:
        raise UserError(f"{manifest.folder}: a fact is called '{name}_offset' or '{name}_size'; name another column")
    if earlier is not None and earlier != entry:
        raise UserError(f"{manifest.folder}: column '{name}' exists with other values ({earlier}, not {entry})")


def _part_path(folder: Path, name: str, shard: int) -> Path:
    return folder / "parts" / f"{name}-{shard:06d}.json"


def _written_from(
    manifest: Manifest, name: str, width: int, shard: int, rows: range, made: dict[str, Any]
) -> dict[str, Any]:
    """What a shard of the column is computed from."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(f"{manifest.at(row, 'key')}\0{manifest.at(row, 'frames')}\n".encode())
    motion = manifest.entry(shard)["motion"]["sha256"]
    return {"shard": shard, "column": name, "width": width, "motion": motion, "clips": digest.hexdigest(), **made}


def _finished(
    manifest: Manifest, name: str, width: int, shard: int, rows: range, made: dict[str, Any]
) -> dict[str, Any] | None:
    """A shard's part, if it is complete and of these clips."""
    folder = Path(manifest.folder)
    written_from = _written_from(manifest, name, width, shard, rows, made)
    return manifest_update.finished_part(folder, _part_path(folder, name, shard), shard, written_from)


def _write(
    manifest: Manifest,
    name: str,
    values: Values,
    width: int,
    shard: int,
    rows: range,
    progress: Progress,
    made: dict[str, Any],
) -> dict[str, Any]:
    """Write and commit a shard of the column; returns its part. An OSError leaves nothing behind."""
    from webdataset.writer import TarWriter

    folder, damaged = Path(manifest.folder), []
    path = tar_path(folder, name, shard)
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(atomic.file(path))
        writer = stack.enter_context(TarWriter(handle, mtime=0, encoder=False))
        for row in rows:
            key, frames = str(manifest.at(row, "key")), int(manifest.at(row, "frames"))
            try:
                values_TD = _checked(values(manifest, row), key, frames, width)
            except ClipError:
                damaged.append(key)
                values_TD = np.full((frames, width), np.nan, "<f2")
            target = io.BytesIO()
            np.save(target, values_TD, allow_pickle=False)
            writer.write({"__key__": key, f"{name}.npy": target.getvalue()})
            progress.step()
    with tarfile.open(path, "r:") as tar:
        at = {info.name: (info.offset_data, info.size) for info in tar}
    places = [at[f"{manifest.at(row, 'key')}.{name}.npy"] for row in rows]
    part = {
        **_written_from(manifest, name, width, shard, rows, made),
        "places": places,
        "damaged": damaged,
        "tar": shards.describe(folder, name, shard),
    }
    atomic.write_json(_part_path(folder, name, shard), part)
    return part


def _checked(values_TD: np.ndarray, key: str, frames: int, width: int) -> np.ndarray:
    values_TD = np.asarray(values_TD)
    if values_TD.shape != (frames, width):
        raise ValueError(f"clip {key}: features have shape {values_TD.shape} instead of {(frames, width)}")
    with np.errstate(over="ignore"):
        fp16_TD = np.ascontiguousarray(values_TD, "<f2")
    if not np.isfinite(fp16_TD).all():
        raise ValueError(f"clip {key}: features are not finite as fp16; scale them")
    return fp16_TD


def _enter(manifest: Manifest, name: str, entry: dict[str, Any], parts: dict[int, dict[str, Any]]) -> None:
    """Write the manifest with the column of these shards. Raises UserError where it changed meanwhile."""
    folder = Path(manifest.folder)
    stored = manifest_update.stored(folder)
    if stored is None or stored.header["table"]["sha256"] != manifest.digest:
        raise UserError(f"{folder}: the manifest was rewritten meanwhile; run the same command again")
    table, header, _ = stored
    shard_n = table["shard"].to_numpy()
    for place, column in enumerate(place_names(name)):
        earlier_n = table[column].fill_null(0).to_numpy() if column in table.column_names else np.zeros(len(table))
        values_n = earlier_n.astype(np.int64)
        for shard, part in parts.items():
            values_n[shard_n == shard] = [one[place] for one in part["places"]]
        table = set_column(table, column, pa.array(values_n))
    entries = [
        {**shard, name: parts[shard["shard"]]["tar"]} if shard["shard"] in parts else shard
        for shard in header["shards"]
    ]
    members = {**header.get("members", {}), name: entry}
    manifest_update.save(folder, table, {**header, "shards": entries, "members": members})

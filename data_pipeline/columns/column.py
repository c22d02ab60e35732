"""A later column: features of every clip, in tars of their own next to existing shards.

`mel-000003.tar` has the same keys in the same order as `motion-000003.tar`: `KEY.mel.npy`, fp16, a row of values for
each frame of 25 Hz, so that a window is a byte range. A shard of the column is committed by `parts/mel-000003.json`,
which is written last; the manifest names the column when all shards have it.

Shape suffixes: B batch, T frames, S audio samples, D values per frame.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline.pool import Failure, Work
from data_pipeline.shards import manifest_update
from data_pipeline.shards import writer as shards
from data_pipeline.shards.layout import COLUMNS, MEMBERS, tar_path
from data_pipeline.shards.manifest import Manifest, pinned
from data_pipeline.shards.manifest_update import Change
from data_pipeline.shards.reader import ClipError
from data_pipeline.shards.table import files
from data_pipeline.shards.table.merging import place_names
from data_pipeline.shards.table.parts import finished_part
from data_pipeline.storage.store import Store
from data_pipeline.tasks.runner import Runner
from data_pipeline.tasks.together import Job, Plan, together
from mytalk import atomic
from mytalk.command import UserError

Values = Callable[[Manifest, int], np.ndarray]  # (manifest, row) -> values of a clip, (T, width)


@dataclass(frozen=True)
class Made:
    """A column that is to be written: `values` as `add` takes them, and what made them."""

    values: Values
    width: int
    of: str = ""
    made_by: dict[str, Any] | None = None


@dataclass(frozen=True)
class Added:
    """What `add` did."""

    clips: int  # of the column
    written: int  # of them, by this call
    damaged: list[str]  # keys of clips that could not be read


def add(
    folder: Path,
    name: str,
    values: Values,
    width: int,
    of: str = "",
    made_by: dict[str, Any] | None = None,
    runner: Runner | None = None,
) -> Added:
    """Write the column `name`, `width` values a frame, for every shard that lacks it, and enter it in the manifest.

    Values must be finite as fp16. Where `values` raises ClipError the clip gets NaN, and readers take another clip in
    its place. Values `of` "audio" are shifted with the sound when read. Killed anywhere, the same call continues; any
    number of processes may call it at once. `runner` says who does it (None: this process; other processes need
    `values` that pickle).
    `made_by` says what made the values, with digests: a column that others made is refused.
    Raises UserError for a name that is taken, RunAgain for a manifest that changed meanwhile, ValueError for wrong
    values, OSError.
    """
    refuse_name(name)
    if width < 1:
        raise ValueError(f"a column of {width} values a frame holds nothing")
    files.read_header(Store(folder))  # nothing is made in a folder without shards
    adding = Adding(folder, name, values, width, of, made_by)
    clips, damaged = together(adding, runner or Runner(0))
    return Added(clips, adding.written, damaged)


class Adding(Job["ShardTask"]):
    """The work of one column, a task a shard."""

    def __init__(self, folder: Path, name: str, values: Values, width: int, of: str, made_by: dict[str, Any] | None):
        super().__init__(folder / "parts" / f"{name}-tasks")
        self.folder, self.name, self.values, self.width = folder, name, values, width
        self.made = {"made_by": made_by} if made_by else {}
        self.entry = {"column": name, "width": width, **({"of": of} if of else {}), **self.made}
        self.written = 0

    def plan(self) -> Plan:
        self.manifest, torn = manifest_update.planned(self.folder)
        _refuse_taken(self.manifest, self.name, self.entry)
        ranges = self.manifest.ranges()
        fixed = (self.folder, self.manifest.digest, self.name)
        self.tasks = {n: ShardTask(*fixed, n, start, stop, self.width, self.made) for n, start, stop in ranges}
        self.complete = {entry["shard"] for entry in self.manifest.header["shards"] if self.name in entry}
        self.pending = {
            n for n, task in self.tasks.items() if n not in self.complete and _part(self.manifest, task) is None
        }
        if self.pending and torn:
            Manifest.load(self.folder)  # raises where another command died in the middle of it; else it was writing
            return self.plan()
        kind = json.dumps([self.entry, manifest_update.tars(self.manifest), len(self.manifest)], sort_keys=True)
        return Plan(
            hashlib.sha256(kind.encode()).hexdigest(), {n: task.stop - task.start for n, task in self.tasks.items()}
        )

    def clean(self) -> None:
        for folder in (self.folder, self.folder / "parts"):
            atomic.sweep(folder, f"{self.name}-")  # another column may be written beside this one
        for number in self.pending:  # a part that was made of something else
            _part_path(self.folder, self.name, number).unlink(missing_ok=True)

    def done(self, number: int) -> bool:
        return number in self.complete or _part_path(self.folder, self.name, number).exists()

    def all_done(self) -> set[int]:
        found = (re.fullmatch(rf"{self.name}-(\d+)\.json", name) for name in os.listdir(self.folder / "parts"))
        return {int(match[1]) for match in found if match}

    def work(self) -> Work:
        return functools.partial(write_part, self.values)

    def took(self, number: int, result: int) -> None:
        self.written += result

    def condemn(self, task: ShardTask, item: int, failure: Failure) -> ShardTask:
        return replace(task, condemned=(*task.condemned, item))

    def close(self) -> tuple[int, list[str]]:
        parts = {n: _part(self.manifest, task) for n, task in self.tasks.items() if n not in self.complete}
        _enter(self.manifest, self.name, self.entry, {n: part for n, part in parts.items() if part is not None})
        return len(self.manifest), [key for part in parts.values() if part for key in part["damaged"]]


@dataclass(frozen=True)
class ShardTask:
    """A shard of a column: rows [start, stop) of the manifest. `condemned`: clips, by place, that kill workers."""

    folder: Path
    digest: str  # of the manifest
    name: str
    shard: int
    start: int
    stop: int
    width: int
    made: dict[str, Any]
    condemned: tuple[int, ...] = ()

    @property
    def path(self) -> Path:
        """Of its part."""
        return _part_path(self.folder, self.name, self.shard)


def refuse_name(name: str) -> None:
    """Raises UserError for a text that cannot name a column."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,31}", name) or name in (*COLUMNS, *MEMBERS):
        raise UserError(f"'{name}' cannot name a column; use small letters, digits and _, and no name of a member")


def _refuse_taken(manifest: Manifest, name: str, entry: dict[str, Any]) -> None:
    earlier = manifest.header.get("members", {}).get(name)
    begun = any((Path(manifest.folder) / "parts").glob(f"{name}-*.json"))  # by a writer that was killed
    if earlier is None and not begun and {*place_names(name)} & {*manifest.names}:
        raise UserError(f"{manifest.folder}: a fact is called '{name}_offset' or '{name}_size'; name another column")
    if earlier is not None and earlier != entry:
        raise UserError(f"{manifest.folder}: column '{name}' exists with other values ({earlier}, not {entry})")


def _part_path(folder: Path, name: str, shard: int) -> Path:
    return folder / "parts" / f"{name}-{shard:06d}.json"


def _written_from(manifest: Manifest, task: ShardTask) -> dict[str, Any]:
    """What a shard of the column is computed from."""
    digest = hashlib.sha256()
    for row in range(task.start, task.stop):
        digest.update(f"{manifest.at(row, 'key')}\0{manifest.at(row, 'frames')}\n".encode())
    said = {"shard": task.shard, "column": task.name, "width": task.width, "clips": digest.hexdigest()}
    return {**said, "motion": manifest.entry(task.shard)["motion"]["sha256"], **task.made}


def _part(manifest: Manifest, task: ShardTask) -> dict[str, Any] | None:
    """A shard's part, if it is complete and of these clips."""
    return finished_part(task.folder, task.path, task.shard, _written_from(manifest, task))


def write_part(values: Values, task: ShardTask, tick: Callable[[int, int], None]) -> int:
    """Write and commit a shard of the column; returns its clips. An OSError leaves nothing behind."""
    from webdataset.writer import TarWriter

    manifest, damaged = pinned(task.folder, task.digest), []
    rows, path = range(task.start, task.stop), tar_path(task.folder, task.name, task.shard)
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(atomic.file(path))
        writer = stack.enter_context(TarWriter(handle, mtime=0, encoder=False))
        for place, row in enumerate(rows):
            tick(place, 0)
            key, frames = str(manifest.at(row, "key")), int(manifest.at(row, "frames"))
            try:
                if place in task.condemned:
                    raise ClipError(key, "worker_died", "it killed its worker")
                values_TD = _checked(values(manifest, row), key, frames, task.width)
            except ClipError:
                damaged.append(key)
                values_TD = np.full((frames, task.width), np.nan, "<f2")
            target = io.BytesIO()
            np.save(target, values_TD, allow_pickle=False)
            writer.write({"__key__": key, f"{task.name}.npy": target.getvalue()})
            tick(place, 1)
    with tarfile.open(path, "r:") as tar:
        at = {info.name: (info.offset_data, info.size) for info in tar}
    places = [at[f"{manifest.at(row, 'key')}.{task.name}.npy"] for row in rows]
    part = {
        **_written_from(manifest, task),
        "places": places,
        "damaged": damaged,
        "tar": shards.describe(task.folder, task.name, task.shard),
    }
    atomic.write_json(task.path, part)
    return len(rows)


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
    """Write the manifest with the column of these shards. Raises RunAgain where its clips changed meanwhile."""

    def change(now: Manifest) -> Change:
        manifest_update.refuse_other_clips(now, manifest)
        shard_n, columns = now.column("shard"), {}
        for place, column in enumerate(place_names(name)):
            values_n = np.zeros(len(now), np.int64)
            if now.has(column):
                values_n[:] = np.nan_to_num(now.column(column))
            for shard, part in parts.items():
                first, past = np.searchsorted(shard_n, [shard, shard + 1])
                values_n[first:past] = [one[place] for one in part["places"]]
            columns[column] = pa.array(values_n)
        entries = [
            {**shard, name: parts[shard["shard"]]["tar"]} if shard["shard"] in parts else shard
            for shard in now.header["shards"]
        ]
        members = {**now.header.get("members", {}), name: entry}
        return Change(columns, {**now.header, "shards": entries, "members": members})

    manifest_update.update(Path(manifest.folder), change)

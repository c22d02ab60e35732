"""An annotation: facts of every clip that are measured later and become columns of the manifest.

What is measured of a shard lies in `annotations/NAME/NNNNNN.parquet`: a row per clip, with the columns of the manifest
and what else the annotation keeps, such as embeddings. Its metadata say what made it and of which tars; a part that was
made otherwise, or of other tars, is made again.

Shape suffixes: S audio samples.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.shards import reader
from data_pipeline.shards.manifest import Manifest, pinned
from data_pipeline.shards.members import WAV_HEADER_BYTES, from_pcm
from data_pipeline.shards.reader import ClipError
from mytalk import atomic

WRITTEN_FROM = b"written_from"  # in a part's metadata
DAMAGED = "damaged"  # of a part: why a clip could not be measured, else null


@dataclass(frozen=True)
class Options:
    """What annotations can be told."""

    syncnet: str = ""  # folder of a model
    same_person: float | None = None  # distance below which two faces are one person


Measure = Callable[[Manifest, int], Mapping[str, Any]]  # (manifest, row) -> the values of a clip


class Joined(NamedTuple):
    """Columns that only all clips together give, and lines for the person who annotates."""

    columns: dict[str, pa.Array]
    lines: list[str]


class Annotation(Protocol):
    """A module of this package.

    `COLUMNS`: columns of the manifest, with their types; `KEPT`: further values, in the parts alone. `made_by(options)`
    says what makes them, for the manifest's header: JSON. Raises UserError where that is not there. `measure(options)`
    gives what measures a clip, once for the life of a process; it raises ClipError for a damaged clip. `join(manifest,
    parts, made_by)` gets all parts, in the manifest's order, and gives the columns that are of all clips together.
    """

    COLUMNS: dict[str, pa.DataType]
    KEPT: dict[str, pa.DataType]

    made_by: Callable[[Options], dict[str, Any]]
    measure: Callable[[Options], Measure]
    join: Callable[[Manifest, pa.Table, dict[str, Any]], Joined]


@dataclass(frozen=True)
class PartTask:
    """A shard to annotate: rows [start, stop) of the manifest. `condemned`: clips, by place, that killed a worker."""

    folder: Path
    digest: str  # of the manifest
    name: str
    module: str
    shard: int
    start: int
    stop: int
    options: Options
    made_by: str  # digest
    condemned: tuple[tuple[int, str], ...] = ()


def load(module: str) -> Annotation:
    """The module of an annotation."""
    return importlib.import_module(module)


def part_path(folder: Path, name: str, shard: int) -> Path:
    """Where what was measured of a shard lies."""
    return folder / "annotations" / name / f"{shard:06d}.parquet"


def digest_of(value: Any) -> str:
    """SHA-256 of something as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def written_from(manifest: Manifest, task: PartTask) -> bytes:
    """What a part was made by and of: the tars of extraction, and the clips in their order."""
    entry = manifest.entry(task.shard)
    clips = [[str(manifest.at(row, "key")), int(manifest.at(row, "frames"))] for row in range(task.start, task.stop)]
    tars = {name: entry[name]["sha256"] for name in ("motion", "frames") if name in entry}
    said = {"made_by": task.made_by, "shard": task.shard, "tars": tars, "clips": digest_of(clips)}
    return json.dumps(said, sort_keys=True).encode()


def finished(manifest: Manifest, task: PartTask) -> bool:
    """Whether a shard's part is there, whole, and written from the same."""
    try:
        metadata = pq.read_schema(part_path(task.folder, task.name, task.shard)).metadata or {}
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return metadata.get(WRITTEN_FROM) == written_from(manifest, task)


def write_part(task: PartTask, tick: Callable[[int, int], None]) -> int:
    """Measure the clips of a shard and commit its part; returns how many are damaged. Raises OSError, UserError."""
    manifest, module = pinned(task.folder, task.digest), load(task.module)
    measure = _measures(task.module, task.options)
    fields = [pa.field("key", pa.string())]
    fields += [pa.field(name, kind) for name, kind in {**module.COLUMNS, **module.KEPT}.items()]
    fields.append(pa.field(DAMAGED, pa.string()))
    condemned, rows = dict(task.condemned), []
    for place, row in enumerate(range(task.start, task.stop)):
        tick(place, 0)
        values: dict[str, Any] = {"key": str(manifest.at(row, "key"))}
        if place in condemned:
            values[DAMAGED] = condemned[place]
        else:
            try:
                values |= measure(manifest, row)
            except ClipError as error:
                values[DAMAGED] = f"{error.reason}: {error.message}"
        rows.append(values)
        tick(place, 1)
    schema = pa.schema(fields, metadata={WRITTEN_FROM: written_from(manifest, task)})
    table = pa.Table.from_pylist(rows, schema=schema)
    target = io.BytesIO()
    pq.write_table(table, target, write_statistics=False)
    atomic.write_bytes(part_path(task.folder, task.name, task.shard), target.getvalue())
    return len(table) - table[DAMAGED].null_count


@functools.lru_cache(maxsize=1)
def _measures(module: str, options: Options) -> Measure:
    return load(module).measure(options)


def parts(folder: Path, name: str, shards: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some columns of all parts, in the order of shards."""
    read = [pq.read_table(part_path(folder, name, shard), columns=list(columns), use_threads=False) for shard in shards]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in read])


# What annotations read of a clip ---------------------------------------------------------------------


def stored_audio(manifest: Manifest, row: int) -> np.ndarray:
    """The clip's sound as it lies in the shard, float32 (S,): no annotated A/V offset is applied. Raises ClipError."""
    return from_pcm(reader.read_member(manifest, row, "audio")[WAV_HEADER_BYTES:])


def has_speech(manifest: Manifest, row: int) -> bool:
    """Whether a clip can teach speech, as the manifest says; True where it does not say."""
    known = (manifest.at(row, name) for name in ("has_audio", "speaks") if manifest.has(name))
    return all(value is None or bool(value) for value in known)


def nothing_to_join(manifest: Manifest, parts: pa.Table, made_by: dict[str, Any]) -> Joined:
    """`join` of an annotation whose clips are measured one by one."""
    return Joined({}, [])

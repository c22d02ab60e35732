"""The samples of each tar of an index, cached in OUT/parts, and its checksums in OUT/sums.

A part is a head, with what it depends on (the mapping, size and time of the tars), and a line a sample, so that only
new or changed tars are read.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from data_pipeline.index import third_party
from data_pipeline.index.field_mapping import FieldMapping
from data_pipeline.index.merge import ShardSource
from data_pipeline.index.tar_samples import Unusable
from data_pipeline.shards import checksums
from data_pipeline.shards.layout import COLUMNS
from mytalk import atomic
from mytalk.command import UserError
from mytalk.digest import sha256_of
from mytalk.progress import Progress

PARTS, SUMS = "parts", "sums"
FORMAT = 1  # of the parts


def read_tars(
    out: Path, tars: Sequence[ShardSource], mapping: FieldMapping, workers: int
) -> dict[ShardSource, dict[str, Any]]:
    """The head of each tar's part; a tar without a valid part is read. Raises OSError, UserError for unequal pairs."""
    heads = {source: _valid_head(out, source, mapping) for source in tars}
    unread = [source for source, head in heads.items() if head is None]
    if unread:
        progress = Progress("index", len(tars), "tars", done=len(tars) - len(unread))
        with ThreadPoolExecutor(workers) as threads:
            source_of = {threads.submit(_read_tar, out, source, mapping): source for source in unread}
            try:
                for done in as_completed(source_of):
                    heads[source_of[done]] = done.result()
                    progress.step()
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        progress.finish()
    return {source: head for source, head in heads.items() if head is not None}


def samples_of(out: Path, source: ShardSource) -> list[dict[str, Any]]:
    """The samples of a tar, as its part lists them."""
    with open(_part_path(out, source)) as handle:
        return [json.loads(line) for line in handle][1:]


def _read_tar(out: Path, source: ShardSource, mapping: FieldMapping) -> dict[str, Any]:
    """Read a tar and write its part: a head and a line a sample. Returns the head, with a reason for a damaged tar."""
    fingerprint = _fingerprint(out, source, mapping)
    head: dict[str, Any] = {**fingerprint, "columns": {}}
    samples: list[dict[str, Any]] = []
    try:
        samples = third_party.read(out / source.tar, out / source.frames if source.frames else None, mapping)
    except Unusable as unusable:
        head.update(reason=unusable.reason, message=str(unusable))
    except ValueError as error:
        raise UserError(f"{error}; name pairs of tars in equal order") from None
    else:
        entries = {name: _write_checksums(out, name) for name in fingerprint["files"]}
        head["columns"] = dict(zip(COLUMNS, (entries[source.tar], entries[source.frames or source.tar])))
    if _fingerprint(out, source, mapping) != fingerprint:
        raise UserError(f"{source.tar} was changed while it was read; run the same command when its writer is done")
    with atomic.file(_part_path(out, source), "w") as handle:
        for line in (head, *samples):
            handle.write(json.dumps(line, allow_nan=False) + "\n")
    return head


def _valid_head(out: Path, source: ShardSource, mapping: FieldMapping) -> dict[str, Any] | None:
    """The head of a tar's part, if mapping and files are still the same; else None."""
    fingerprint = _fingerprint(out, source, mapping)
    try:
        with open(_part_path(out, source)) as handle:
            head = json.loads(handle.readline())
        if {name: head.get(name) for name in fingerprint} != fingerprint:
            return None
        for entry in head["columns"].values():
            (out / entry["crc"]).stat()
    except (FileNotFoundError, ValueError, AttributeError, KeyError):
        return None
    return head


def _fingerprint(out: Path, source: ShardSource, mapping: FieldMapping) -> dict[str, Any]:
    """What a part depends on: the mapping, and size and time of the tars. Raises UserError where one is missing."""
    files = {}
    for name in filter(None, (source.tar, source.frames)):
        try:
            stat = os.stat(out / name)
        except FileNotFoundError:
            raise UserError(f"{name} was indexed and is missing now; restore it, or name another OUT") from None
        files[name] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    return {"format": FORMAT, "rules": dataclasses.asdict(mapping), "unit": source.listed(), "files": files}


def _write_checksums(out: Path, name: str) -> dict[str, Any]:
    """Write the checksums of a tar, and return its entry in the manifest's header."""
    crc = f"{SUMS}/{stem(name)}.crc"
    checksums.write(out / name, out / crc)
    return {"bytes": os.stat(out / name).st_size, "sha256": sha256_of(out / name), "file": name, "crc": crc}


def _part_path(out: Path, source: ShardSource) -> Path:
    return out / PARTS / f"{stem(source.tar)}.jsonl"


def stem(name: str) -> str:
    """Name of the files about a tar: readable and unique."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).name.rpartition(".")[0])[:48].strip("-")
    return f"{readable or 'tar'}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}"

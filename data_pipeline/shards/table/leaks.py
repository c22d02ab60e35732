"""No person, source or group in two splits (invariant 3)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from data_pipeline.shards.table.columns import dictionary, texts
from data_pipeline.shards.table.schema import SPLITS
from mytalk.command import UserError

if TYPE_CHECKING:
    from data_pipeline.shards.manifest import Manifest


def refuse_leaks(manifest: Manifest, folder: str | Path) -> None:
    """No identity, no identical source and no group of what a split joins is in two splits (invariant 3).

    `duplicate_group` holds all that was joined; what a later annotation would join, only where the header says so.
    """
    joined = (manifest.header.get("split") or {}).get("joined", [])
    for name in ("identity", "source_sha256", "duplicate_group", *joined):
        if not manifest.has(name):
            continue
        pairs = np.concatenate([_pairs(batch[name], batch["split"]) for batch in manifest.batches([name, "split"])])
        pairs.sort()
        twice = np.flatnonzero((pairs[1:] >> 2 == pairs[:-1] >> 2) & (pairs[1:] != pairs[:-1]))
        if len(twice):
            raise UserError(_leak(manifest, folder, name, int(pairs[twice[0]] >> 2)))


def _hashed(text: str) -> int:
    """62 bits, the same in this process only."""
    return hash(text) >> 2


def _pairs(values: pa.ChunkedArray, splits: pa.ChunkedArray) -> np.ndarray:
    """The distinct pairs of value and split, of some rows that are assigned and have a value: hash * 4 + split."""
    value, (names, split_n) = dictionary(values), texts(dictionary(splits))
    hashes = np.array([_hashed(text) for text in value.dictionary.to_pylist()], np.int64)
    places = np.array([SPLITS.index(name) if name in SPLITS else -1 for name in names], np.int64)
    there = value.is_valid().to_numpy(zero_copy_only=False)
    pair = value.indices.fill_null(0).to_numpy().astype(np.int64) * len(SPLITS)
    where = places[split_n]
    seen = np.zeros(len(hashes) * len(SPLITS), bool)
    seen[(pair + where)[there & (where >= 0)]] = True
    pair = np.flatnonzero(seen)
    return hashes[pair // len(SPLITS)] << 2 | pair % len(SPLITS)


def _leak(manifest: Manifest, folder: str | Path, name: str, wanted: int) -> str:
    splits: list[str] = []
    for value, split in zip(manifest.column(name), manifest.column("split")):
        if value is not None and _hashed(value) == wanted and split and split not in splits:
            splits.append(split)
            leaked = value
    return (
        f"{folder}: {name} '{leaked}' is in splits '{splits[0]}' and '{splits[1]}'; assign people "
        f"again with: python -m data_pipeline split {folder} --force"
    )

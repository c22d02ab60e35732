"""Who must be in which split: corpora that are held out, lists of a test set, the corpora's own splits.

Shape suffixes: n clips, G groups.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table.columns import texts
from data_pipeline.shards.table.schema import SPLITS
from data_pipeline.split.deal import STRICTEST
from mytalk.command import UserError

OFFICIAL = "official_split"  # a corpus's own: train, val or test (extract --layout)
OF_OFFICIAL = {"train": "train", "val": "val", "test": "unseen"}


def named(text: str) -> tuple[str, str]:
    """`NAME=VALUE` as a pair. Raises ArgumentTypeError."""
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not '{text}'")
    return name, value


def digests(lists: Sequence[tuple[str, str]]) -> list[str]:
    """Lists as settings keep them: `SPLIT=FILE@digest`. Raises UserError for an unknown split, or no such file."""
    found = []
    for split, path in lists:
        if split not in SPLITS:
            raise UserError(f"--list {split}={path}: there is no split '{split}'; there are: {', '.join(SPLITS)}")
        found.append(f"{split}={path}@{hashlib.sha256(_read(path)).hexdigest()[:16]}")
    return sorted(found)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"no file {path}; name one with a person, source or key a line") from None


def of_groups(manifest: Manifest, args: argparse.Namespace, group_n: np.ndarray, count: int) -> list[tuple[str, ...]]:
    """The splits that each group may be in; () where nothing is wished. Of several wishes the strictest holds.

    Raises UserError where a held-out corpus, or all of a list, is not there.
    """
    wished = np.zeros((len(STRICTEST), count), bool)
    for column, value in args.hold_out:
        wished[0, group_n[_with_value(manifest, column, value)]] = True
    for split, path in args.list:
        wished[STRICTEST.index(split), group_n[_listed(manifest, path)]] = True
    free_G = np.zeros(count, bool)
    if args.official:
        codes, names = _codes(manifest, OFFICIAL)
        corpora_n = manifest.codes("corpus")[0] if manifest.has("corpus") else np.zeros(len(codes), np.int32)
        for official, split in OF_OFFICIAL.items():
            if official in names:
                of_n = codes == names.index(official)
                wished[STRICTEST.index(split), group_n[of_n]] = True
        with_val = np.unique(corpora_n[codes == names.index("val")]) if "val" in names else np.zeros(0, np.int32)
        trained_n = (codes == names.index("train")) if "train" in names else np.zeros(len(codes), bool)
        free_G[group_n[trained_n & ~np.isin(corpora_n, with_val)]] = True
    strictest_G = np.where(wished.any(axis=0), wished.argmax(axis=0), len(STRICTEST))
    return [_allowed(place, free) for place, free in zip(strictest_G.tolist(), free_G.tolist())]


def _allowed(place: int, free: bool) -> tuple[str, ...]:
    """A corpus without a val of its own gives some of its train people to val."""
    if place == len(STRICTEST):
        return ()
    return ("train", "val") if STRICTEST[place] == "train" and free else (STRICTEST[place],)


def _codes(manifest: Manifest, name: str) -> tuple[np.ndarray, list[str]]:
    manifest.has(name, needed=True)
    return manifest.codes(name)


def _with_value(manifest: Manifest, column: str, value: str) -> np.ndarray:
    codes, names = _codes(manifest, column)
    if value not in names:
        known = ", ".join(sorted(name for name in names if name)[:10])
        raise UserError(f"--hold-out {column}={value}: no clip has it; there are: {known}")
    return codes == names.index(value)


def _listed(manifest: Manifest, path: str) -> np.ndarray:
    """Clips whose person (with or without its corpus), source or key stands in a file: bool (n,)."""
    lines = {line.strip() for line in _read(path).decode(errors="surrogateescape").splitlines()} - {""}
    found = np.zeros(len(manifest), bool)
    row = 0
    for batch in manifest.batches([name for name in ("identity", "source", "key") if manifest.has(name)]):
        for name in batch.column_names:
            at = row
            for chunk in batch[name].chunks:
                distinct, index_n = texts(chunk if hasattr(chunk, "dictionary") else chunk.dictionary_encode())
                known = [text in lines or (name == "identity" and text.partition("/")[2] in lines) for text in distinct]
                found[at : at + len(index_n)] |= np.array(known, bool)[index_n]
                at += len(index_n)
        row += len(batch)
    if not found.any():
        raise UserError(f"{path}: no person, source or key of the clips is in it")
    return found

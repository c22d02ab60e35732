"""Stores that lose no time over faults, and what files hold."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from data_pipeline.storage.cache import BLOCK_BYTES
from data_pipeline.storage.store import Store

CHUNK = 3000  # bytes, so that small files have several chunks


def fast(root, cache=None, **more) -> Store:
    """A store that loses no time over faults."""
    return Store(root, cache, **{"wait_s": 0.005, "timeout_s": 10, **more})


def patience(fault) -> dict[str, float]:
    """Settings of a store that is to meet a fault: where the server falls silent, it loses no time over that either."""
    return {"timeout_s": 0.4} if fault in ("stall", "silent") else {}


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def sliced(held: dict[str, bytes], ranges) -> list[bytes]:
    return [held[name][offset : offset + size] for name, offset, size in ranges]


def on_disk(folder: Path) -> int:
    """Bytes that the files of a folder take on the disk, whole blocks counted."""
    total = 0
    for entry in os.scandir(folder) if folder.exists() else ():
        try:
            total += -(-entry.stat().st_size // BLOCK_BYTES) * BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total

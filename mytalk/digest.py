"""SHA-256 of files, by which manifests and reports name shards, weights and checkpoints."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable


def sha256_of(path: str | os.PathLike, on_block: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file's bytes, hex. `on_block` is called after each MiB, as a sign of life."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
            on_block()
    return digest.hexdigest()

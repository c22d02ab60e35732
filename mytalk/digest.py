"""SHA-256 of files: what names shards, weights and checkpoints in manifests and reports."""

from __future__ import annotations

import hashlib
import os


def sha256_of(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, hex."""
    made = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            made.update(block)
    return made.hexdigest()

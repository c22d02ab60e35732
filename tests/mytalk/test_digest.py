"""Digests of files."""

from __future__ import annotations

import hashlib

from mytalk import atomic
from mytalk.digest import sha256_of


def test_digest_is_sha256_of_the_whole_file(tmp_path):
    data = bytes(range(256)) * 5000
    atomic.write_bytes(tmp_path / "file", data)
    blocks = []
    assert sha256_of(tmp_path / "file", lambda: blocks.append(0)) == hashlib.sha256(data).hexdigest()
    assert len(blocks) == 2  # of a MiB or less

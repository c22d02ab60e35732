"""Files of awkward sizes, and chunks of the cache so small that each file has several."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.storage import cache as cache_module
from tests.helpers.stores import (
    CHUNK,
    noise,
)


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr(cache_module, "CHUNK_BYTES", CHUNK)


@pytest.fixture(scope="package")
def folder(tmp_path_factory) -> Path:
    """Files of awkward sizes: none, one byte, whole chunks, a byte more or less."""
    made = tmp_path_factory.mktemp("files")
    for seed, size in enumerate([0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 4 * CHUNK, 5 * CHUNK + 77]):
        (made / f"f{seed}").write_bytes(noise(seed, size))
    (made / "a b#c%.tar").write_bytes(noise(99, 500))
    return made

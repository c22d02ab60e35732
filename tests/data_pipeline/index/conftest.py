"""Corpora that the tests of `index` share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.table import merging
from tests.helpers import talkers
from tests.helpers.indexing import (
    copied,
)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory) -> Path:
    """Two folders of talkers, `one` and `two`, of different people, and `theirs`: the first as tars of others."""
    root = tmp_path_factory.mktemp("corpora")
    people = {"train": 3, "val": 2, "unseen": 2}
    talkers.write(root / "one", people, video=True, corpora=("one",))
    talkers.write(root / "plain", people, clips_each=3, corpora=("two",))
    made = Manifest.load(root / "plain")
    copied(root / "plain", root / "two-tars", change=lambda facts: facts)
    table = made.table.set_column(0, "key", pa.array([f"two-{key}" for key in made.column("key")]))
    hashes = pa.array([f"two {value}" for value in made.column("source_sha256")])
    table = merging.set_column(table, "source_sha256", hashes)
    shutil.copytree(root / "plain", root / "two")
    manifest_update.save(root / "two", table, made.header)
    copied(root / "one", root / "theirs", video=True)
    return root

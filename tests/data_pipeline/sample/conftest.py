"""Shards of short talkers, and what one process consumes of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_pipeline.shards.manifest import Manifest
from tests.helpers.consumed import (
    DRAWN,
    RECIPES,
    TWO_CORPORA,
    Consumed,
    run,
    write,
)


@pytest.fixture(scope="package")
def shards(tmp_path_factory) -> Path:
    """Two people in val, six to train, two clips each, four in a shard."""
    return write(tmp_path_factory.mktemp("shards"), {"val": 2, "train": 6})


@pytest.fixture(scope="package")
def mixed(tmp_path_factory) -> Path:
    """As many, of two corpora."""
    return write(tmp_path_factory.mktemp("mixed"), {"val": 2, "train": 6}, TWO_CORPORA)


@pytest.fixture(scope="package")
def alone(shards) -> dict[str, Consumed]:
    """What one process consumes, by recipe."""
    made = Manifest.load(shards)
    return {name: run(make(made, DRAWN)) for name, make in RECIPES.items()}

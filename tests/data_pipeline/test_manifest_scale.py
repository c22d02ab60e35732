"""A manifest is filtered, joined and split in memory that holds some columns of it, never all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from data_pipeline.shards.manifest import Manifest
from tests.helpers import drawn_index
from tests.helpers.checkout import ROOT


def most_mb(folder: Path) -> float:
    """The most memory of all steps, in a process of its own."""
    typed = [sys.executable, "-m", "benchmarks.manifest", str(folder), "--step", "filter", "join", "split"]
    done = subprocess.run(typed, cwd=ROOT, capture_output=True, text=True, timeout=3000)
    assert done.returncode == 0, done.stderr
    return max(json.loads(line)["peak_mb"] for line in done.stdout.splitlines())


def test_a_hundred_thousand_clips_take_some_columns_of_memory(tmp_path):
    """The table whole is some 600 bytes a clip and the imports 100 MB; 4 GiB for ten million are 430 bytes a clip."""
    folder = drawn_index.write(tmp_path, 200, 500)
    assert most_mb(folder) < 300
    made = Manifest.load(folder)
    assert made.header["split"]["joined"] == ["copy_group", "person_cluster"]
    assert {*made.codes("split")[1]} == {"train", "val", "unseen"}


@pytest.mark.full
def test_ten_million_clips_are_filtered_joined_and_split_below_4_gib(tmp_path):
    assert most_mb(drawn_index.write(tmp_path, 20_000, 500)) * 1e6 < 4 * 2**30

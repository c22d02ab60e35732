"""The benchmarks run and print all their rows; the figures are nobody's business here."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from benchmarks import shards
from tests.conftest import ROOT

ROWS = [
    *("stock webdataset, clips of 5 s", "only what is read for them", "motion examples a second / floor"),
    *("stock webdataset, clips of 20 s", "no padding, clips of 20 s", "floor of bare reads, clips of 20 s"),
    *("decord, an mp4 per clip", "decord, the same bytes", "appearance examples a second / floor"),
    *("200 shards x 10 clips", "200 shards x 100 clips", "200 shards x 500 clips"),
]


def test_the_stream_is_measured(tmp_path):
    """Every contestant takes part and makes the same tensors, which the benchmark asserts itself."""
    out = tmp_path / "rows.json"
    typed = [sys.executable, "-m", "benchmarks.stream", "--clips", "12", "--seconds", "0.2", "--out", str(out)]
    done = subprocess.run(typed, cwd=ROOT, check=True, capture_output=True, text=True, timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    assert len(lines) == 2 + len(ROWS)
    for line, row in zip(lines[2:], ROWS):
        assert row in line
    kept = json.loads(out.read_text())
    assert [f"| {row['what']} " in line for row, line in zip(kept, lines[2:])] == [True] * len(ROWS)
    assert all(ratio > 0 for row in kept for ratio in row["ratios"])


@pytest.mark.full
def test_the_shard_format_is_measured(capsys):
    """The three tables of benchmarks.shards, on the shortest clips."""
    assert shards.run(shards.arguments().parse_args(["--seconds", "3", "--rounds", "1"])) == 0
    out = capsys.readouterr().out
    for head in ("| video | coding |", "| speech | coding |", "| block, KiB |"):
        assert head in out

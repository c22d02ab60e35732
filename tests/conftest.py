"""Fixtures that several folders' tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import talkers

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def talker_shards(tmp_path_factory) -> Path:
    """Shards of synthetic talkers: 4 people to train, 2 in val, 2 unseen; two clips each."""
    return talkers.write(tmp_path_factory.mktemp("talkers"), {"train": 4, "val": 2, "unseen": 2})


@pytest.fixture(scope="session")
def command():
    """Run `python ARGS` in the checkout as a user would; returns the CompletedProcess with text output."""

    def run(*args: str, check: bool = False, **more) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
        return subprocess.run(
            [sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=check, **more
        )

    return run

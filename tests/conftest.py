"""Fixtures that several folders' tests share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.helpers import talkers
from tests.helpers.checkout import ROOT

# The same examples in every run, however busy the machine; `make test-full` draws others.
settings.register_profile("repeat", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("repeat")

with contextlib.suppress(ImportError):
    import cv2

    cv2.setNumThreads(1)  # its threads are not in the processes that tests fork, which would wait for them


@pytest.fixture(scope="session")
def talker_shards(tmp_path_factory) -> Path:
    """Shards of synthetic talkers: 4 people to train, 2 in val, 2 unseen; two clips each."""
    return talkers.write(tmp_path_factory.mktemp("talkers"), {"train": 4, "val": 2, "unseen": 2})


@pytest.fixture(scope="session")
def filmed_shards(tmp_path_factory) -> Path:
    """The same talkers with a video column."""
    people = {"train": 4, "val": 2, "unseen": 2}
    return talkers.write(tmp_path_factory.mktemp("filmed"), people, video=True)


@pytest.fixture(scope="session")
def real_videos() -> Path:
    """The folder of videos with real faces that MYTALK_REAL_VIDEOS names; without one the test is skipped."""
    folder = os.environ.get("MYTALK_REAL_VIDEOS")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs real faces: set MYTALK_REAL_VIDEOS to a folder of videos")
    return Path(folder)


@pytest.fixture(scope="session")
def command():
    """Run `python ARGS` in the checkout as a user would; returns the CompletedProcess with text output."""

    def run(*args: str, check: bool = False, **more) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
        return subprocess.run(
            [sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=check, **more
        )

    return run

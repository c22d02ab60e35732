"""Fixtures that several folders' tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tests import talkers

# The same examples in every run, however busy the machine; `make test-full` draws others.
settings.register_profile("repeat", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("repeat")

ROOT = Path(__file__).parent.parent


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
def command():
    """Run `python ARGS` in the checkout as a user would; returns the CompletedProcess with text output."""

    def run(*args: str, check: bool = False, **more) -> subprocess.CompletedProcess:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **more.pop("env", {})}
        return subprocess.run(
            [sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True, check=check, **more
        )

    return run


def stopped(
    typed: list[str], ready: Callable[[], bool], sent: signal.Signals = signal.SIGTERM, group: bool = False
) -> tuple[int, str]:
    """Start `python TYPED`, signal it (or its whole process group) once `ready()`, and wait.

    Returns its exit code and all it said.
    """
    process = subprocess.Popen(
        [sys.executable, *typed],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None and not ready():
        time.sleep(0.02)
    in_time = time.monotonic() < deadline
    os.killpg(process.pid, sent) if group else process.send_signal(sent)
    said, _ = process.communicate(timeout=600)
    assert in_time, f"what was waited for never came: {said}"
    return process.returncode, said

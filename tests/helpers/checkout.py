"""The checkout that is tested, and commands typed in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


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

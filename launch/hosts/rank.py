"""One rank, before it becomes the command: `python -m launch.hosts.rank`, started by torchrun's agent.

The words come through the environment, not as arguments, in which the agent replaces `$$` and `${local_rank}`. The
process stays the same, so a signal to it reaches the command.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from pathlib import Path

from mytalk.command import ERROR_FILE, EXIT_RUN_AGAIN

WORDS = "MYTALK_WORDS"
FOLDER = "MYTALK_NODE_FOLDER"  # of the node's agent: process ids and error files of its ranks
HOST = "MYTALK_HOST"  # as the hostfile names it
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def pid_file(folder: Path, local_rank: int) -> Path:
    """Where a rank leaves its process id."""
    return folder / f"{local_rank}.pid"


def told_file(folder: Path) -> Path:
    """What is there once a signal was to be passed on: a rank that begins later never got it."""
    return folder / "told"


def error_file(folder: Path, local_rank: int) -> Path:
    """Where a rank that fails leaves why."""
    return folder / f"{local_rank}.error.json"


def main() -> None:
    """Become `python -m WORDS`; killed when the agent is. Where a signal came before, end as one that it stopped."""
    folder, local_rank = Path(os.environ.pop(FOLDER)), int(os.environ["LOCAL_RANK"])
    words = json.loads(os.environ.pop(WORDS))
    agent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != agent:  # it died before the call
            os._exit(128 + signal.SIGKILL)
    os.environ[ERROR_FILE] = str(error_file(folder, local_rank))
    pid_file(folder, local_rank).write_text(str(os.getpid()))
    if told_file(folder).exists():  # looked for after the process id is there: a signal between the two finds that
        sys.exit(EXIT_RUN_AGAIN)
    os.execv(sys.executable, [sys.executable, "-m", *words])


if __name__ == "__main__":
    main()

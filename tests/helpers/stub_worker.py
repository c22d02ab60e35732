"""`extract` with stubs in processes of its own: a worker as another machine would be, killed like one, or on Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from data_pipeline.extract import command as extract
from data_pipeline.extract.work import tasks
from mytalk import command
from tests.helpers import stub_extract
from tests.helpers.checkout import ROOT

REAL = tasks.make_shard
CODE = "from tests.helpers import stub_worker; stub_worker.main()"


def make_shard(task, tick):
    """The work of a worker process, which finds the stubs in place."""
    stub_extract.install()
    return REAL(task, tick)


def main() -> None:
    """Extract by the words of the command line."""
    stub_extract.install()
    tasks.make_shard = make_shard
    args = extract.arguments().parse_args(sys.argv[1:])
    sys.exit(command.guarded("extract", lambda: extract.run(args), debug=False))


def start(videos: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """A process that extracts; what it says goes to `stdout`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", CODE, str(videos), str(out), *options]
    return subprocess.Popen(
        words, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

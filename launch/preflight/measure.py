"""A rank of preflight: `python -m launch.preflight.measure OUT FOLDER train RECIPE ...`, started by a launcher.

It writes what its machine is, and becomes the training itself, which measures how fast it would go (train/rates.py).
OUT is a folder that all machines share; disk figures are of FOLDER.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from launch.hosts import probe
from launch.hosts.rank import HOST
from mytalk import atomic

FACTS, RATES = "rank-{}-facts.json", "rank-{}-rates.json"


def main(out: str, folder: str, words: Sequence[str]) -> None:
    """Write the facts, then go on as the training's command."""
    rank = int(os.environ.get("RANK", "0"))
    found = probe.facts(Path(folder))
    # Several nodes of a test may be one machine: what started them has names for them.
    found["host"] = os.environ.get(HOST) or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    atomic.write_json(Path(out, FACTS.format(rank)), found)
    os.dup2(2, 1)  # preflight's own table alone is on stdout
    os.execv(sys.executable, [sys.executable, "-m", *words, "--rates", str(Path(out, RATES.format(rank)))])


def found(out: Path, ranks: int) -> list[dict[str, Any]]:
    """What every rank has written. Raises FileNotFoundError where one's is not there."""
    return [
        {**json.loads((out / FACTS.format(rank)).read_text()), **json.loads((out / RATES.format(rank)).read_text())}
        for rank in range(ranks)
    ]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

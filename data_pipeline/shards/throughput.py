"""How fast a folder was extracted: OUT/runs.jsonl, a line for each run of the command that read something."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from data_pipeline.storage.store import Store
from mytalk import atomic

FILE = "runs.jsonl"


@dataclass(frozen=True)
class Throughput:
    """Frames that were read, the seconds that took, and the seconds times the workers."""

    frames: int
    seconds: float
    core_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.frames} in {self.seconds:.0f} s: {self.frames / self.seconds:.1f} a second, "
            f"{self.frames / self.core_seconds:.1f} a second and core"
        )


def append(out: Path, run: Throughput) -> None:
    """Add a run. Raises OSError."""
    path = out / FILE
    earlier = path.read_bytes() if path.exists() else b""
    atomic.write_bytes(path, earlier + json.dumps(asdict(run)).encode() + b"\n")


def total(stores: Iterable[Store]) -> Throughput | None:
    """All runs of some folders together; None where none says. Raises OSError."""
    lines = [line for store in stores if store.exists(FILE) for line in store.whole(FILE).splitlines()]
    runs = [Throughput(**json.loads(line)) for line in lines]
    sums = (sum(values) for values in zip(*((run.frames, run.seconds, run.core_seconds) for run in runs)))
    return Throughput(*sums) if runs else None

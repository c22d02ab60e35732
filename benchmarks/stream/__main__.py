"""What the stream costs beside its rivals: examples a second, the share of the reader's own floor, the first batch.

One run, on shards that it makes itself in a temporary folder. The contestants take turns, round after round, so that a
busy machine slows them alike: what is compared is each round's ratio. All are one process with one thread of torch, on
files in the page cache, and all make the same tensors of the same kind of draws: that is asserted before the clock
runs. So what differs is how the bytes are found, read, checked and decoded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import harness, talkers
from benchmarks.harness import Row
from benchmarks.stream import appearance, first_batch, motion
from benchmarks.stream.turns import MICRO_BATCH
from data_pipeline.shards.manifest import Manifest
from mytalk import command
from mytalk.machine import cores

LONGER = 4  # times as long are other clips, of which there are as many fewer
FIRST_BATCH_S, SHARDS = 5.0, 20_000
CLIPS_PER_SHARD = (10, 100, 500)  # of the indexes whose first batch is timed
ROUNDS_OF_FIRST = (5, 5, 3)


def arguments() -> argparse.ArgumentParser:
    parser = command.parser(
        "python -m benchmarks.stream",
        "Measure the stream: motion examples against a stock webdataset pipeline, appearance examples against decord\n"
        "on one mp4 per clip, both against bare reads of the same bytes, and the time to the first batch of a large\n"
        "index. Makes its own shards (1.2 MB a clip, and some 2 GB for the largest index) and prints one table.",
        "python -m benchmarks.stream --clips 80 --seconds 5 --out stream.json",
    )
    parser.add_argument("--clips", type=int, default=80, help="clips of 5 s, 12 or more (default: %(default)s)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=5.0,
        help="of each contestant; below 1 is a rehearsal, with few turns and small indexes (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="also write the rows as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    if args.clips < 12 or args.seconds <= 0:
        raise command.UserError("--clips must be 12 or more and --seconds above 0")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        talkers.write(folder / "shards", folder / "files", args.clips)
        manifest = Manifest.load(folder / "shards")
        rows = motion.rows(manifest, args)
        talkers.write(folder / "long", None, args.clips // LONGER, talkers.FRAMES * LONGER)
        rows += motion.rows(Manifest.load(folder / "long"), args)
        rows += appearance.rows(manifest, folder / "files", args)
        rows += first_rows(folder, *((SHARDS, ROUNDS_OF_FIRST) if args.seconds >= 1 else (200, (1, 1, 1))))
    conditions = (
        f"{args.clips} clips, {args.seconds:g} s each in {len(rows[0].values)} turns, {cores()} cores; one process and "
        f"one thread of torch each, micro-batches of {MICRO_BATCH}; medians over the rounds (least to most)"
    )
    return harness.report(conditions, rows, args.out)


def first_rows(folder: Path, shards: int, rounds_of_first: tuple[int, ...]) -> list[Row]:
    """Time to the first batch of large indexes, each in fresh processes."""
    rows = []
    for per_shard, rounds in zip(CLIPS_PER_SHARD, rounds_of_first):
        index = folder / f"index-{per_shard}"
        print(f"making an index of {shards} shards x {per_shard} clips", file=sys.stderr)
        talkers.write_index(index, folder / "shards", shards, per_shard)
        asked = [sys.executable, "-m", "benchmarks.stream.first_batch", str(index)]
        taken = []
        for _ in range(rounds):
            done = subprocess.run(asked, check=True, capture_output=True, text=True, timeout=600)
            taken.append(json.loads(done.stdout))
        median = {name: float(np.median([one[name] for one in taken])) for name in taken[0]}
        parts = ", ".join(f"{name} {median[name]:.2f}" for name in ("load", "plan", "batch"))
        sums_s = [one["load"] + one["plan"] + one["batch"] for one in taken]
        rows.append(
            Row(
                f"first batch of {first_batch.BATCH}, {shards} shards x {per_shard} clips: {FIRST_BATCH_S:g} s / time",
                f"{np.median(sums_s):.2f} s ({parts}); {median['memory_mb']:.0f} MB; imports {median['imports']:.2f}",
                f"{FIRST_BATCH_S:g} s",
                [FIRST_BATCH_S / taken_s for taken_s in sums_s],
                "1",
            )
        )
    return rows


if __name__ == "__main__":
    harness.end("python -m benchmarks.stream", lambda: run(arguments().parse_args()))

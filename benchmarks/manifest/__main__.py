"""A manifest filtered, joined with annotations, and split: seconds and memory of each, against a plain scan by Arrow.

`python -m benchmarks.manifest FOLDER` works on a folder that holds a manifest and need not hold shards, such as
`python -m tests.helpers.drawn_index FOLDER 20000 500` writes, and changes it. Each step is a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import harness
from data_pipeline.sample.selection import select
from data_pipeline.shards import manifest_update
from data_pipeline.shards.manifest import Manifest
from data_pipeline.shards.manifest_update import Change
from data_pipeline.shards.table.schema import TABLE
from data_pipeline.split import command as split
from mytalk import command

WHERE = 'face_px >= 100 and corpus in ("corpus0", "corpus2") and not yaw_deg > 20'
COLUMNS = ["key", "shard", "frames", "identity", "split", "corpus", "face_px", "yaw_deg", "source_sha256"]
COPY_EVERY = 50  # clips, one of which has a copy further on
STEPS = ("scan", "filter", "join", "split")


def arguments() -> argparse.ArgumentParser:
    """The command line of `python -m benchmarks.manifest`."""
    parser = command.parser("python -m benchmarks.manifest", __doc__ or "", "python -m benchmarks.manifest drawn")
    parser.add_argument("folder", type=Path, help="of manifest.json and manifest.parquet; it is changed")
    parser.add_argument("--step", choices=STEPS, nargs="+", help="these alone, in this process, as lines of JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Print a line of JSON for each step that is named, else the table of all."""
    for step in args.step or ():
        print(json.dumps(measured(args.folder, step)))
    if args.step:
        return command.EXIT_DONE
    print("| step | seconds | times a plain scan | most memory, MB |\n|---|---|---|---|")
    scan_s = 0.0
    for step in STEPS:
        typed = [sys.executable, "-m", "benchmarks.manifest", str(args.folder), "--step", step]
        done = subprocess.run(typed, check=True, capture_output=True, text=True)
        said = json.loads(done.stdout)
        scan_s = scan_s or said["seconds"]
        times, memory = said["seconds"] / scan_s, said["peak_mb"]
        print(f"| {step}: {said['what']} | {said['seconds']:.1f} | {times:.2f} | {memory:.0f} |", flush=True)
    return command.EXIT_DONE


def measured(folder: Path, step: str) -> dict[str, float | str]:
    """What a step does, its seconds, and the most memory that the process had."""
    began = time.perf_counter()
    what = {"scan": _scan, "filter": _filter, "join": _join, "split": _split}[step](folder)
    return {"what": what, "seconds": time.perf_counter() - began, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024 / 1e6


def _scan(folder: Path) -> str:
    rows = 0
    for batch in pq.ParquetFile(folder / TABLE).iter_batches(columns=COLUMNS, use_threads=False):
        rows += len(batch)
    return f"{len(COLUMNS)} columns of {rows} clips by Arrow"


def _filter(folder: Path) -> str:
    made = select(Manifest.load(folder), "train", ("identity", "frames"), WHERE)
    return f"{len(made)} clips of train are left, with their digest"


def _join(folder: Path) -> str:
    """As `annotate` enters what it measured: a column of copies, and one of faces that joins each two people."""

    def change(manifest: Manifest) -> Change:
        person_n, _ = manifest.codes("identity")
        row_n = np.arange(len(manifest))
        group_n = row_n // (2 * COPY_EVERY)
        copied = pa.array(row_n % COPY_EVERY != 0)
        columns = {
            "copy_group": _texts("copy", group_n, copied),
            "person_cluster": _texts("face", person_n // 2, pa.array(np.zeros(len(row_n), bool))),
        }
        return Change(columns, {k: v for k, v in manifest.header.items() if k != "split"})

    manifest_update.update(folder, change)
    return "two columns of text, the table written anew"


def _texts(word: str, number_n: np.ndarray, missing: pa.Array) -> pa.Array:
    """`word:number` of each clip, null where it is missing."""
    distinct = pa.array([f"{word}:{number}" for number in range(int(number_n.max()) + 1)])
    indices = pa.array(number_n, pa.int32(), mask=missing.to_numpy(zero_copy_only=False))
    return pa.DictionaryArray.from_arrays(indices, distinct).cast(pa.string())


def _split(folder: Path) -> str:
    typed = [str(folder), "--by", "hours", "--stratify", "corpus", "--force"]
    with contextlib.redirect_stdout(io.StringIO()):
        split.run(split.arguments().parse_args(typed))
    return "by hours, stratified, sources, copies and faces joined; the table written anew"


if __name__ == "__main__":
    harness.end("python -m benchmarks.manifest", lambda: run(arguments().parse_args()))

"""The command: which parts, in which order, and the table of their rows."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Row
from benchmarks.train.contestant import Contestant
from benchmarks.train.jobs import Job, base_job, described, mfu_jobs, write_shards
from benchmarks.train.plays import contestant
from benchmarks.train.rows import checkpoint_rows, data_rows, loop_rows, mfu_rows, processes_rows
from mytalk import command
from mytalk.machine import cores

PARTS = ("loop", "data", "checkpoint", "processes", "mfu")
PEAK_TFLOPS = {  # dense bf16 and fp16 of the makers' data sheets
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H200": 989.4,
    **dict.fromkeys(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"), 312.0),
    **dict.fromkeys(("NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"), 312.0),
}


def arguments() -> argparse.ArgumentParser:
    made = command.parser(
        "python -m benchmarks.train",
        "Measure the training loop: its steps beside a bare DeepSpeed loop's at the same ZeRO stage, its waiting for\n"
        "data, what a checkpoint costs, two processes beside one, and model FLOPs utilisation. Makes its own shards.",
        "python -m benchmarks.train --stages 0,2 --out train.json\n"
        "  on a GPU: python -m benchmarks.train --parts mfu --micro-batches 1,2,4,8 \\\n"
        "    --mfu-config configs/paper/motion.yaml --mfu-config configs/paper/appearance.yaml",
    )
    made.add_argument("--parts", type=words, default=PARTS, help=f"of {','.join(PARTS)} (default: all)")
    made.add_argument(
        "--stages",
        type=numbers,
        default=[0, 1, 2, 3],
        help="of ZeRO; two processes are measured at 0 and 2 (default: 0,1,2,3)",
    )
    made.add_argument("--rounds", type=int, default=12, help="turns of each contestant (default: %(default)s)")
    made.add_argument("--config", metavar="FILE", help="of the motion run that is measured; default: a small one")
    made.add_argument("--mfu-config", metavar="FILE", action="append", help="RECIPE.yaml; may come again")
    made.add_argument("--micro-batches", type=numbers, default=[4], help="of which MFU is measured (default: 4)")
    made.add_argument("--peak-tflops", type=float, help="of the GPU, dense, in the run's precision, if not known here")
    made.add_argument("--out", type=Path, help="also write the rows as JSON")
    made.add_argument("--contestant", action="store_true", help=argparse.SUPPRESS)  # a process that takes turns
    return made


def numbers(text: str) -> list[int]:
    """`0,1,2` of the command line."""
    return [int(number) for number in text.split(",")]


def words(text: str) -> list[str]:
    """Parts as typed; argparse reports those that there are not."""
    if unknown := set(text.split(",")) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    return text.split(",")


def run(args: argparse.Namespace) -> int:
    if args.contestant:
        contestant()
    if args.rounds < 1 or not set(args.stages) <= {0, 1, 2, 3} or min(args.micro_batches) < 1:
        raise command.UserError("--rounds and --micro-batches must be 1 or more, --stages of 0,1,2,3")
    with tempfile.TemporaryDirectory() as name, Contestant(Path(name)) as asked:
        device = asked.ask(Job("device"))
    peak_tflops = None
    if device["cuda"]:
        peak_tflops = args.peak_tflops or PEAK_TFLOPS.get(device["name"])
        if not peak_tflops and "mfu" in args.parts:
            raise command.UserError(f"the peak of {device['name']} is not known here; name it with --peak-tflops")
    with tempfile.TemporaryDirectory() as name:
        base, measured = base_job(args, Path(name)), mfu_jobs(args, Path(name))
        write_shards(Path(name), [base, *measured])
        rows = list(measure(args, base, measured, Path(name), device["count"], peak_tflops))
    conditions = f"{device['name']}, {cores()} cores; one thread of torch a process; {args.rounds} rounds"
    return harness.report(f"{conditions}; {described(base)}", rows, args.out)


def measure(
    args: argparse.Namespace, base: Job, measured: list[Job], folder: Path, devices: int, peak_tflops: float | None
) -> Iterator[Row]:
    """The rows of all parts that are asked for."""
    fewer = max(1, args.rounds * 2 // 3)
    for stage in args.stages if "loop" in args.parts else ():
        yield from loop_rows(base, stage, folder, args.rounds)
    if {"data", "checkpoint"} & set(args.parts):
        with Contestant(folder) as one, Contestant(folder) as two:
            if "data" in args.parts:
                yield from data_rows(base, folder, max(1, args.rounds // 4), (one, two))
            if "checkpoint" in args.parts:
                yield from checkpoint_rows(base, folder, fewer, (one, two))
    if "processes" in args.parts and devices > 1:
        for stage in sorted({0, 2} & set(args.stages)):
            yield from processes_rows(base, stage, folder, fewer)
    for job in measured if "mfu" in args.parts else ():
        yield from mfu_rows(job, folder, max(1, args.rounds // 2), peak_tflops)


if __name__ == "__main__":
    harness.end("python -m benchmarks.train", lambda: run(arguments().parse_args()))

"""How fast tasks are shared out, and what a second worker brings.

`python -m benchmarks.tasks --tasks 100000` claims and finishes that many tasks of one board by one process, then by two
at once, and looks once more at the finished ones. `--videos FOLDER` extracts it with one worker and with two, in turns,
and once more over the finished shards; CPU seconds stand beside the clock's, which other work slows down.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import harness
from benchmarks.harness import Row
from data_pipeline.tasks.board import Board, work_through
from mytalk import command


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = command.parser("python -m benchmarks.tasks", __doc__ or "", "python -m benchmarks.tasks --tasks 100000")
    parser.add_argument("--tasks", type=int, default=100_000, help="on the board (default: %(default)s)")
    parser.add_argument("--videos", type=Path, help="folder of videos: also measure extraction by one and two workers")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the board lies, such as a network disk (default: /tmp)")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    return parser


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    rows = list(_claims(args.tasks, args.folder)) if args.tasks else []
    if args.videos:
        rows += _extraction(args.videos, args.rounds)
    load = os.getloadavg()[0]
    return harness.report(f"{os.cpu_count()} cores, load {load:.0f}", rows, args.out)


def _claims(count: int, where: Path | None) -> Iterator[Row]:
    rates = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            seconds = _finished_in(Path(folder), count, workers)
            rates.append(count / seconds)
            if workers == 2:
                began = time.monotonic()
                _do_all(Path(folder), count)
                again_s = time.monotonic() - began
    yield Row(f"claims, {count} tasks, one process", f"{rates[0]:.0f} a second", "", [])
    yield Row("by two processes", f"{rates[1]:.0f} a second", "one process", [rates[1] / rates[0]])
    yield Row("again over finished ones", f"{again_s:.2f} s", "", [])


def _finished_in(folder: Path, count: int, workers: int) -> float:
    (folder / "done").mkdir()
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_do_all, args=(folder, count)) for _ in range(workers)]
    began = time.monotonic()
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return time.monotonic() - began


def _do_all(folder: Path, count: int) -> None:
    """Claim, finish (an empty file) and release tasks until all are done."""
    done = folder / "done"
    with Board(folder / "board", lambda n: (done / str(n)).exists(), lambda: set(map(int, os.listdir(done)))) as board:

        def do(claimed: Iterator[int]) -> None:
            for number in claimed:
                (done / str(number)).touch()
                board.release(number)

        work_through(board, range(count), do)


def _extraction(videos: Path, rounds: int) -> Iterator[Row]:
    seconds: dict[int, list[float]] = {1: [], 2: []}
    cpu_s: dict[int, list[float]] = {1: [], 2: []}
    again_s = []
    for turn in harness.turns("extract", 2, rounds):
        workers = turn + 1
        with tempfile.TemporaryDirectory() as folder:
            for held, value in zip((seconds, cpu_s), _extracted_in(videos, Path(folder), workers)):
                held[workers].append(value)
            again_s.append(_extracted_in(videos, Path(folder), workers)[0])
    files = sum(path.is_file() for path in videos.rglob("*"))
    yield Row("two workers against one", f"{min(seconds[2]):.1f} s", "one worker", _ratios(seconds), "1.8")
    yield Row("CPU of two workers", f"{min(cpu_s[2]):.1f} s", "one worker", _ratios(cpu_s))
    yield Row("again over finished work", f"{1000 * min(again_s) / files:.0f} ms a file", "", [])


def _ratios(seconds: dict[int, list[float]]) -> list[float]:
    return [one / two for one, two in zip(seconds[1], seconds[2])]


def _extracted_in(videos: Path, out: Path, workers: int) -> tuple[float, float]:
    """Seconds of the clock, and of CPU."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["-m", "data_pipeline", "extract", str(videos), str(out), "--sources-per-shard", "1", "--corpus", "c"]
    subprocess.run([sys.executable, *words, "--workers", str(workers)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.monotonic() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    harness.end("python -m benchmarks.tasks", lambda: run(arguments().parse_args()))

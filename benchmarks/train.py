"""What the training loop costs: beside a bare DeepSpeed loop, waiting for data, checkpoints, two processes, MFU.

One run, on shards that it makes itself in a temporary folder. The contestants are processes, one thread of torch each,
that train the same slots with the same settings. They take turns of a few steps, round after round, and stand still
meanwhile, so that a busy machine slows them alike: what is compared is each round's ratio. Loading, validation and
export, which every run has once, are not in it. That the bare loop learns the same is asserted by its losses.

On CPU all goes slower than on a GPU by orders of magnitude, not all by the same: a small model, whose steps take some
0.3 s, stands for a large one. There a step's kernels hide what Python does between them; EMA, Adam and the gradient's
norm go by the bandwidth of memory, and a checkpoint crosses the bus. So the ratios of one say little of the other:
`--config` and `--mfu-config` with configs/paper measure on a GPU, in whose steps the contestants are synchronised at
the ends of turns only.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import torch
from torch import nn

from benchmarks import harness, talkers
from benchmarks.harness import Row
from data_pipeline.sample import loader
from data_pipeline.sample.batch_plan import divide
from mytalk import command, config
from mytalk.machine import cores, free_port
from train import loop
from train.config import LoopConfig
from train.engine import deepspeed_engine, distributed
from train.engine.distributed import Ranks
from train.engine.train_state import TrainState
from train.recipe import Loss, Player, Recipe, Validated
from train.recipes.appearance import AppearanceRecipe, AppearanceTrainConfig
from train.recipes.motion import MotionRecipe, MotionTrainConfig
from train.run_folder.run_log import RunLog

RECIPES: dict[str, tuple[type, Callable[[Any], Recipe]]] = {
    "motion": (MotionTrainConfig, MotionRecipe),
    "appearance": (AppearanceTrainConfig, AppearanceRecipe),
}
SMALL = {  # 6.6 M parameters, 0.3 s a step; and a generator of 0.6 M
    "motion": [
        "window={min_frames: 50, max_frames: 50, source_frames: 50}",
        "model={width: 192, heads: 4, layers: 4, hidden: 512, speech_layers: 2, identity_layers: 1}",
        *("global_batch=8", "max_micro_batch=4", "workers=1"),
    ],
    "appearance": [
        "model={window_px: [128, 192], stem: 4, channels: [32, 64, 96], blocks: [0, 1, 1], heads: 4}",
        *("model.discriminator_channels=16", "references.count=2", "global_batch=4", "workers=1"),
    ],
}
NEVER = 10**9
COMMON = ["validation_split=train", f"validate_every={NEVER}", f"checkpoint_every={NEVER}", "ema_decay=0.999"]
STEADY = ["optimizer.schedule=constant", "optimizer.warmup_steps=0"]  # so that the bare loop needs no schedule
PARTS = ("loop", "data", "checkpoint", "processes", "mfu")
TURN, FIRST, TIMED = 2, 3, 4  # steps of a turn, before the clock runs, and of the turn in which parts are timed
DATA_STEPS = 12  # of a run between two rests, beside those that begin with what was prefetched in the rest
PREFETCH = 4  # micro-batches a worker, as `stream.load` has it
CHECKPOINT_STEPS = 10  # from checkpoint to checkpoint; it falls in the middle of a turn
PEAK_TFLOPS = {  # dense bf16 and fp16 of the makers' data sheets
    "NVIDIA H100 80GB HBM3": 989.4,
    "NVIDIA H200": 989.4,
    **dict.fromkeys(("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB"), 312.0),
    **dict.fromkeys(("NVIDIA A100-PCIE-40GB", "NVIDIA A100 80GB PCIe"), 312.0),
}
BEYOND: dict[str, tuple[Any, str]] = {  # what the loop does beyond the bare one: where it is called from
    "EMA": (deepspeed_engine, "average"),
    "norm of the gradient (the bare loop has one too)": (deepspeed_engine, "gradient_square_sum"),
    "the ranks' message": (Ranks, "sum"),
    "log": (RunLog, "step"),
    "digest of the keys": (loop, "key_sum"),
}


@dataclass(frozen=True)
class Job:
    """What a contestant does: `play` is one of PLAYS. The rest is as `python -m train RECIPE` takes it."""

    play: str
    recipe: str = "motion"
    file: str | None = None
    settings: tuple[str, ...] = ()

    def config(self) -> Any:
        return config.load(RECIPES[self.recipe][0], self.file, self.settings)

    def told(self, *settings: str, play: str = "") -> Job:
        """The same with more settings."""
        return replace(self, play=play or self.play, settings=(*self.settings, *settings))


@dataclass
class Turn:
    """What a contestant's turn took in all, by the clock and of CPU time; `parts_s` where it was timed."""

    wall_s: float
    cpu_s: float
    faults: int  # pages that the system had to hand out
    parts_s: dict[str, float]
    writing: bool  # a checkpoint still is, at the end


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


# Jobs and shards -------------------------------------------------------------------------------------


def base_job(args: argparse.Namespace, folder: Path) -> Job:
    """The motion run that is measured; later settings win."""
    small = () if args.config else SMALL["motion"]
    return Job("loop", "motion", args.config, (*small, *COMMON, f"shards={folder / 'motion'}", "identity="))


def mfu_jobs(args: argparse.Namespace, folder: Path) -> list[Job]:
    """What MFU is measured of. All windows are of full length: what pads a batch would count as work."""
    jobs: list[Job] = []
    for file in args.mfu_config or [None, None]:
        recipe = Path(file).stem.split("_")[-1] if file else list(SMALL)[len(jobs) % len(SMALL)]
        if recipe not in RECIPES:
            raise command.UserError(f"--mfu-config {file}: a file's name must end in motion.yaml or appearance.yaml")
        settings = (*(() if file else SMALL[recipe]), *COMMON, f"shards={folder / recipe}")
        job = Job("loop", recipe, file, settings)
        if recipe == "motion":
            job = job.told(f"window.min_frames={job.config().window.max_frames}", "identity=")
        else:
            job = job.told("adversarial_from_step=0")
        jobs.append(job)
    return [at_micro_batch(job, micro) for job in jobs for micro in args.micro_batches]


def at_micro_batch(job: Job, micro_batch: int) -> Job:
    """The job with exactly this micro-batch, and about as many examples a step."""
    accumulation = max(1, round(job.config().global_batch / micro_batch))
    return job.told(f"max_micro_batch={micro_batch}", f"global_batch={micro_batch * accumulation}")


def write_shards(folder: Path, jobs: list[Job]) -> None:
    """Talkers whose clips are long enough for every window; a few with videos where the appearance is measured."""
    windows = [job.config().window for job in jobs if job.recipe == "motion"]
    frames = max(length for window in windows for length in (window.max_frames, window.source_frames))
    talkers.write(folder / "motion", None, 12, frames + 50)
    if any(job.recipe == "appearance" for job in jobs):
        talkers.write(folder / "appearance", folder / "files", 8, 60)


def described(job: Job) -> str:
    made = job.config()
    divided = divide(made.global_batch, made.max_micro_batch, 1)
    return f"motion of {divided.accumulation} micro-batches of {divided.micro_batch} in {made.precision}"


def metrics(run: Path, kind: str = "seconds") -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl that hold this."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if kind in line]


# A contestant, as the benchmark sees it ------------------------------------------------------------------


class Contestant:
    """A run's processes, which do what they are told by lines of JSON: a job, then turns of so many steps.

    With `strangers`, so many runs of one process each. A `{n}` in a job's settings is the process's number.
    """

    def __init__(self, folder: Path, world_size: int = 1, strangers: int = 1):
        self.log = tempfile.NamedTemporaryFile("w+", dir=folder)  # noqa: SIM115  closed in __exit__
        places = [(rank, port) for port in (free_port() for _ in range(strangers)) for rank in range(world_size)]
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.train", "--contestant"],
                env={**os.environ, "OMP_NUM_THREADS": "1", **rank_of(rank, number, world_size, port)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.log,
                text=True,
                bufsize=1,
            )
            for number, (rank, port) in enumerate(places)
        ]

    def __enter__(self) -> Contestant:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.communicate()  # closes its input, of which it ends
        self.log.close()

    def tell(self, said: dict[str, Any]) -> None:
        for number, process in enumerate(self.processes):
            assert process.stdin is not None
            process.stdin.write(json.dumps(said).replace("{n}", str(number)) + "\n")

    def hear(self) -> dict[str, Any]:
        """What rank 0 answers, once all ranks have."""
        answers = []
        for process in self.processes:
            assert process.stdout is not None
            if not (line := process.stdout.readline()):
                said = Path(self.log.name).read_text().split("\n")
                errors = [line for line in said if "Error" in line] or [line for line in said if line]
                raise command.UserError(f"a contestant ended: {(errors or ['without a word'])[-1]}")
            answers.append(json.loads(line))
        return answers[0]

    def ask(self, job: Job) -> dict[str, Any]:
        self.tell(asdict(job))
        return self.hear()

    def turn(self, steps: int, timed: bool = False) -> Turn:
        self.tell({"steps": steps, "timed": timed})
        return Turn(**self.hear())

    def finish(self) -> dict[str, Any]:
        """Let it do its last step."""
        self.tell({"steps": -1, "timed": False})
        return self.hear()


def rank_of(rank: int, number: int, world_size: int, port: int) -> dict[str, str]:
    """The environment of a rank, as torchrun makes it; every process of a contestant has a device of its own."""
    named = {"RANK": rank, "LOCAL_RANK": number, "WORLD_SIZE": world_size, "MASTER_PORT": port}
    return {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in named.items()}}


def take_turns(
    what: str, of: list[tuple[Contestant, Job]], rounds: int, steps: int = TURN, first: int = FIRST
) -> list[list[Turn]]:
    """The turns of each: `first` steps that are not looked at, then `rounds` of `steps`; who begins alternates.

    Each has a step left to do then, see `finish`; a job must have as many steps as `lasting` says.
    """
    for contestant, job in of:
        contestant.tell(asdict(job))
    for contestant, _ in of:
        contestant.hear()
    turns: list[list[Turn]] = [[] for _ in of]
    for contestant, _ in of:
        contestant.turn(first)
    for index in harness.turns(what, len(of), rounds):
        turns[index].append(of[index][0].turn(steps))
    return turns


def lasting(rounds: int, steps: int = TURN, first: int = FIRST, more: int = 0) -> str:
    """The setting of a job's steps for `take_turns`, and `more` after it."""
    return f"steps={first + rounds * steps + more + 1}"


def ratios(ours: list[Turn], theirs: list[Turn]) -> list[float]:
    return [own.wall_s / other.wall_s for own, other in zip(ours, theirs)]


def step_s(turns: list[Turn], steps: int = TURN) -> float:
    return float(np.median([turn.wall_s for turn in turns])) / steps


# What is measured ------------------------------------------------------------------------------------


def loop_rows(base: Job, stage: int, folder: Path, rounds: int) -> list[Row]:
    """The loop beside the bare one, and what of its step is spent on what the other has not."""
    job = base.told(*STEADY, f"zero_stage={stage}", lasting(rounds, more=TIMED), f"run={folder / f'loop-{stage}'}")
    with Contestant(folder) as own, Contestant(folder) as other:
        ours, bare = take_turns(f"loop, ZeRO {stage}", [(own, job), (other, job.told(play="bare"))], rounds)
        timed = own.turn(TIMED, timed=True)
        own.finish()
        theirs = other.finish()["losses"]
    losses = [line["loss/motion"] for line in metrics(folder / f"loop-{stage}")]
    assert np.allclose(losses[: len(theirs)], theirs, rtol=1e-3 if job.config().precision == "fp32" else 0.02), (
        "the bare loop must learn the same"
    )
    cpu = float(np.median([own.cpu_s / other.cpu_s for own, other in zip(ours, bare)]))
    parts = ", ".join(f"{name} {100 * seconds / timed.wall_s:.2f} %" for name, seconds in timed.parts_s.items())
    share = sum(timed.parts_s.values()) / timed.wall_s
    faults = [np.median([turn.faults for turn in turns]) / TURN for turns in (ours, bare)]
    each = [f"{step_s(turns):.4f} s a step, {n:.0f} page faults" for turns, n in zip((ours, bare), faults)]
    return [
        Row(f"the loop / a bare DeepSpeed loop, ZeRO {stage}", each[0], each[1], ratios(ours, bare), "<= 1.05", cpu),
        Row(f"of a step, what the loop adds to DeepSpeed, ZeRO {stage}", parts, "the whole step", [share]),
    ]


def data_rows(base: Job, folder: Path, rounds: int, two: tuple[Contestant, Contestant]) -> list[Row]:
    """The share of a step that is spent waiting for data, without the steps that a rest's prefetching feeds."""
    jobs, skipped = [], []
    for workers in (1, 2):
        made = base.config()
        accumulation = divide(made.global_batch, made.max_micro_batch, 1).accumulation
        skipped.append(math.ceil(PREFETCH * workers / accumulation) + 1)
        jobs.append(base.told(f"workers={workers}", f"run={folder / f'data-{workers}'}"))
    steps = DATA_STEPS + max(skipped)
    take_turns("data wait", [(who, job.told(lasting(rounds, steps))) for who, job in zip(two, jobs)], rounds, steps)
    for contestant in two:
        contestant.finish()
    rows = []
    for workers, skip in zip((1, 2), skipped):
        lines = metrics(folder / f"data-{workers}")
        runs = [lines[FIRST + number * steps :][:steps][skip:] for number in range(rounds)]
        waits = [sum(line["wait_s"] for line in lines) for lines in runs]
        wholes = [sum(line["seconds"] for line in lines) for lines in runs]
        each_ms = [1000 * np.sum(sums) / sum(map(len, runs)) for sums in (waits, wholes)]
        of_step = f"{each_ms[0]:.2f} ms a step", f"{each_ms[1]:.1f} ms a step"
        shares = [wait / whole for wait, whole in zip(waits, wholes)]
        rows.append(Row(f"waiting for data / step, workers={workers}", *of_step, shares, "< 0.02"))
    return rows


def checkpoint_rows(base: Job, folder: Path, rounds: int, two: tuple[Contestant, Contestant]) -> list[Row]:
    """What a checkpoint costs in steps: as the loop records it, and by the clock, beside a run that writes none."""
    steps, first, run = CHECKPOINT_STEPS, CHECKPOINT_STEPS // 2 + 1, folder / "with"
    job = base.told(lasting(rounds, steps, first))
    saving = job.told(f"run={run}", f"checkpoint_every={steps}")
    jobs = saving, job.told(f"run={folder / 'without'}")
    ours, without = take_turns("checkpoints", list(zip(two, jobs)), rounds, steps, first)
    for contestant in two:
        contestant.finish()
    step, size = step_s(without, steps), sum(file.stat().st_size for file in newest_files(run))
    said = [line["checkpoint"] for line in metrics(run, "checkpoint")]
    said = said[1 : rounds + 1]  # the first is not looked at, as the first steps are not
    recorded = [(one["wait_s"] + one["copy_s"]) / step for one in said]
    late = sum(turn.writing for turn in ours)
    told = f"a checkpoint of {size / 1e6:.0f} MB every {steps} steps" + (f"; {late} written late" if late else "")
    lost = [(own.wall_s - other.wall_s) / step for own, other in zip(ours, without)]
    cpu = float(np.median([own.cpu_s / other.cpu_s for own, other in zip(ours, without)]))
    wait, copy = (1000 * float(np.median([one[name] for one in said])) for name in ("wait_s", "copy_s"))
    stall = f"wait {wait:.1f} ms, copy {copy:.1f} ms"
    each = f"{step_s(ours, steps):.4f} s a step, {told}", f"{step:.4f} s a step without"
    return [
        Row("stall per checkpoint as recorded, in steps", stall, f"{step:.4f} s a step", recorded, "< 1"),
        Row("steps lost per checkpoint by the clock", *each, lost, "< 1"),
        Row("the loop with checkpoints / without", *each, ratios(ours, without), "-", cpu),
    ]


def newest_files(run: Path) -> list[Path]:
    return [file for file in max((run / "checkpoints").glob("step*")).rglob("*") if file.is_file()]


def processes_rows(base: Job, stage: int, folder: Path, rounds: int) -> list[Row]:
    """Two processes beside one at the same global batch: t1 / (2 t2), 1 where the second halves the time.

    And the most that this machine lets it be: one run alone beside two at once that have nothing to do with each other.
    """
    steps = 2 * TURN
    job = base.told(f"zero_stage={stage}", lasting(rounds, steps))
    with Contestant(folder) as one, Contestant(folder, 2) as two, Contestant(folder, strangers=2) as strangers:
        of = [(one, "alone"), (two, "two"), (strangers, "stranger-{n}")]
        told = [(who, job.told(f"run={folder / f'{stage}-{name}'}")) for who, name in of]
        alone, both, beside = take_turns(f"processes, ZeRO {stage}", told, rounds, steps)
        for contestant, _ in of:
            contestant.finish()
    one_s, two_s, beside_s = (f"{step_s(turns, steps):.4f} s a step" for turns in (alone, both, beside))
    halves = [ratio / 2 for ratio in ratios(alone, both)]
    return [
        Row(f"one process / (2 x two processes), ZeRO {stage}", f"{two_s} by two", f"{one_s} by one", halves),
        Row(
            f"the most it can be here: a run alone / beside a stranger, ZeRO {stage}",
            f"{beside_s} beside a stranger",
            f"{one_s} alone",
            ratios(alone, beside),
        ),
    ]


def mfu_rows(job: Job, folder: Path, rounds: int, peak_tflops: float | None) -> list[Row]:
    """Model FLOPs of a step by its time and the peak: that of a large matmul here, and the data sheet's if given."""
    made = job.config()
    job = job.told(lasting(rounds), f"run={folder / f'mfu-{job.recipe}-{made.max_micro_batch}'}")
    what = f"MFU, {job.recipe}, micro-batch {made.max_micro_batch}, {made.precision}"
    with ExitStack() as stack:
        try:
            who = stack.enter_context(Contestant(folder))
            flops, peak = who.ask(job.told("zero_stage=0", play="flops"))["flops"], who.ask(job.told(play="peak"))
            (ours,) = take_turns(what, [(who, job)], rounds)
            who.finish()
            flops_s = max(peak["flops_s"], who.ask(job.told(play="peak"))["flops_s"])
        except command.UserError as ended:
            if "out of memory" not in str(ended):
                raise
            return [Row(what, "does not fit in memory", "-", [])]
    flops *= made.global_batch // made.max_micro_batch
    own = f"{flops / 1e9:.1f} GFLOP in {step_s(ours):.4f} s"
    peaks = {f"a matmul of {peak['size']} here: {flops_s / 1e12:.3g} TFLOP/s": flops_s}
    if peak_tflops and made.precision != "fp32":
        peaks[f"the data sheet: {peak_tflops:g} TFLOP/s"] = 1e12 * peak_tflops
    return [Row(what, own, name, [flops * TURN / (t.wall_s * of) for t in ours]) for name, of in peaks.items()]


# A contestant from inside ----------------------------------------------------------------------------


def contestant() -> NoReturn:
    """A process that reads jobs until its input ends, and answers on its output; what is printed goes to the log."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def tell(said: dict[str, Any]) -> None:
        answers.write(json.dumps(said) + "\n")

    torch.set_num_threads(1)
    joined = distributed.join()
    try:
        while line := sys.stdin.readline():
            said = json.loads(line)
            job = Job(**{**said, "settings": tuple(said["settings"])})
            tell(PLAYS[job.play](job, Turnstile(tell, joined.device), joined))
            gc.collect()  # engines are rings of references
    finally:
        distributed.leave()
    os._exit(command.EXIT_DONE)  # nothing is left to do: taking the libraries down would take a second


class Turnstile:
    """Where a contestant stands still until its turn, and what its turns take."""

    def __init__(self, tell: Callable[[dict[str, Any]], None], device: torch.device):
        self.tell, self.device = tell, device
        self.left, self.began = 0, spent()
        self.parts_s: dict[str, float] = {}
        self.timing = ExitStack()

    def step(self) -> None:
        """Called at the beginning of each step."""
        if self.left == 0:
            synchronize(self.device)
            wall_s, cpu_s, faults = (now - before for now, before in zip(spent(), self.began))
            self.timing.close()
            writing = any(thread.name == "saver" for thread in threading.enumerate())
            self.tell(asdict(Turn(wall_s, cpu_s, int(faults), self.parts_s, writing)))
            order = json.loads(sys.stdin.readline() or '{"steps": -1, "timed": false}')
            self.left, self.parts_s = order["steps"], {}
            if order["timed"]:
                self.timing.enter_context(timers(self.parts_s, self.device))
            self.began = spent()
        self.left -= 1


def spent() -> tuple[float, float, float]:
    """Seconds by the clock, of CPU time, and page faults, of this process."""
    return time.perf_counter(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@contextmanager
def timers(parts_s: dict[str, float], device: torch.device) -> Iterator[None]:
    """Meanwhile, seconds of what is in BEYOND are added up."""

    def timed(name: str, does: Callable[..., Any]) -> Callable[..., Any]:
        def do(*given: Any, **named: Any) -> Any:
            synchronize(device)
            began = time.perf_counter()
            made = does(*given, **named)
            synchronize(device)
            parts_s[name] = parts_s.get(name, 0.0) + time.perf_counter() - began
            return made

        return do

    with ExitStack() as patched:
        for name, (owner, attribute) in BEYOND.items():
            does = getattr(owner, attribute)
            patched.enter_context(mock.patch.object(owner, attribute, timed(name, does)))
        yield


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Gated(Recipe):
    """A recipe whose steps wait at a gate, once their first batch is there; without what a run does at its end."""

    recipe: Recipe
    gate: Turnstile
    accumulation: int
    calls: int = field(default=0)

    def __post_init__(self) -> None:
        self.name, self.examples = self.recipe.name, self.recipe.examples

    def players(self) -> dict[str, Player]:
        players = self.recipe.players()
        name, first = next(iter(players.items()))

        def loss(networks: Any, batch: Any, *earlier: Any) -> torch.Tensor | Loss:
            if self.calls % self.accumulation == 0:
                self.gate.step()
            self.calls += 1
            return first.loss(networks, batch, *earlier)

        return {**players, name: replace(first, loss=loss)}

    def fixed(self) -> dict[str, Any]:
        return self.recipe.fixed()

    def validate(self, models: dict[str, nn.Module], ranks: Ranks) -> dict[str, float]:
        return {}

    def export(self, states: dict[str, dict[str, torch.Tensor]], folder: Path, validated: Validated) -> None:
        pass


def gated(job: Job, gate: Turnstile, joined: Ranks) -> tuple[LoopConfig, Recipe]:
    made = job.config()
    accumulation = divide(made.global_batch, made.max_micro_batch, joined.world_size).accumulation
    return made, Gated(RECIPES[job.recipe][1](made), gate, accumulation)


def play_loop(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """The project's loop."""
    made, recipe = gated(job, gate, joined)
    return {"code": loop.train(recipe, made, joined)}


def play_bare(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """DeepSpeed as its manual has it: engine, backward, step. The same network, data, Adam, and clipping.

    In bf16 it runs under autocast, as ours: weights are fp32 for both.
    """
    import deepspeed

    made, recipe = gated(job, gate, joined)
    batching, settings = divide(made.global_batch, made.max_micro_batch, joined.world_size), made.optimizer
    torch.manual_seed(made.seed)
    ((name, player),) = recipe.players().items()
    module = player.module.to(joined.device)
    groups = deepspeed_engine.parameter_groups(module, settings)
    adam = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, eps=settings.eps, fused=True)
    told = {**deepspeed_engine.engine_config(made, batching), "gradient_clipping": settings.clip_norm}
    told["zero_optimization"].pop("compute_grad_norm", None)  # it clips by a norm of its own
    engine, *_ = deepspeed.initialize(model=module, optimizer=adam, config=told, dist_init_required=False)
    deepspeed_engine.compute_in(engine, made.precision)
    sizes = batching.global_batch, batching.micro_batch, joined.rank, joined.world_size
    slots = loader.SlotStream(recipe.examples, *sizes, 0, made.steps)
    dtype, losses = deepspeed_engine.AUTOCAST[made.precision], []
    with closing(loader.load(slots, made.workers, pin=joined.device.type == "cuda")) as batches:
        for batch in batches:
            batch = batch.to(joined.device)
            with torch.autocast(joined.device.type, dtype, enabled=dtype != torch.float32):
                loss = player.loss_of({name: engine}, batch, {}).total_B.mean()
            engine.backward(loss)
            engine.step()
            losses.append(loss.detach())
    return {"losses": torch.stack(losses).view(-1, batching.accumulation).mean(1).tolist()}


def play_flops(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """Floating-point operations of one micro-batch: every player's loss and its backward.

    By torch's count of matrix products and convolutions. Attention is counted as plain products, and what a fused
    kernel computes again in its backward is not.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    made = job.config()
    recipe = RECIPES[job.recipe][1](made)
    batching = divide(made.global_batch, made.max_micro_batch, joined.world_size)
    players = recipe.players()
    state = TrainState(players, made, batching, joined)
    batch = recipe.examples(list(range(batching.micro_batch))).to(joined.device)
    outputs: dict[str, Any] = {}
    with counter() as counted, sdpa_kernel(SDPBackend.MATH):
        for name, player in players.items():
            with state.turn(name) as networks:
                loss = player.loss_of(networks, batch, outputs)
            outputs[name] = loss.output
            state.backward(name, loss.total_B, last=True)
    return {"flops": counted.get_total_flops()}


def counter() -> Any:
    """torch's counter of operations, to be entered, with convolutions' gradients counted aright."""
    from torch.utils.flop_counter import FlopCounterMode

    mapped = {torch.ops.aten.convolution_backward: convolution_backward_flops}
    return FlopCounterMode(display=False, custom_mapping=mapped)


def convolution_backward_flops(
    given: Any,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    *rest: Any,
    **_: Any,
) -> int:
    """Each gradient that is wanted, of input and weight, takes what the forward does.

    torch's own count takes a depthwise convolution for a full one in its weight's gradient: `width` times too many.
    """
    from torch.utils.flop_counter import conv_flop_count

    _, _, wanted = rest[:3]
    return (wanted[0] + wanted[1]) * conv_flop_count(x, weight, given, transposed)


def play_peak(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """Operations a second of the fastest of many products of two large matrices, in the run's precision."""
    cuda = joined.device.type == "cuda"
    size, repeats = (8192, 10) if cuda else (1024, 1)
    x = torch.randn(size, size, device=joined.device).to(deepspeed_engine.AUTOCAST[job.config().precision])
    taken, until = list[float](), time.perf_counter() + 1.0
    torch.mm(x, x)
    while len(taken) < 3 or time.perf_counter() < until:
        synchronize(joined.device)
        began = time.perf_counter()
        for _ in range(repeats):
            torch.mm(x, x)
        synchronize(joined.device)
        taken.append((time.perf_counter() - began) / repeats)
    return {"flops_s": 2 * size**3 / min(taken), "size": size}


def play_device(job: Job, gate: Turnstile, joined: Ranks) -> dict[str, Any]:
    """Where contestants compute, and how many at once; asked of a process that ends, so that this one holds no GPU."""
    cuda = joined.device.type == "cuda"
    name = torch.cuda.get_device_name(joined.device) if cuda else "CPU"
    return {"cuda": cuda, "name": name, "count": torch.cuda.device_count() if cuda else cores()}


PLAYS: dict[str, Callable[[Job, Turnstile, Ranks], dict[str, Any]]] = {
    "loop": play_loop,
    "bare": play_bare,
    "flops": play_flops,
    "peak": play_peak,
    "device": play_device,
}


if __name__ == "__main__":
    harness.end("python -m benchmarks.train", lambda: run(arguments().parse_args()))

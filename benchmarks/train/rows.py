"""What is measured: the rows of each part."""

from __future__ import annotations

import json
import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Row
from benchmarks.train.contestant import FIRST, TURN, Contestant, lasting, ratios, step_s, take_turns
from benchmarks.train.jobs import Job
from data_pipeline.sample.batch_plan import divide
from mytalk import command

STEADY = ["optimizer.schedule=constant", "optimizer.warmup_steps=0"]  # so that the bare loop needs no schedule
TIMED = 4  # steps of the turn in which parts are timed
DATA_STEPS = 12  # of a run between two rests, beside those that begin with what was prefetched in the rest
PREFETCH = 4  # micro-batches a worker, as `stream.load` has it
CHECKPOINT_STEPS = 10  # from checkpoint to checkpoint; it falls in the middle of a turn


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


def metrics(run: Path, kind: str = "seconds") -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl that hold this."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if kind in line]

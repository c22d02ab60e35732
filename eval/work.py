"""The clips of a scoring, shared among processes, each written down when it is done; resumed where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from eval import records, report
from eval.plan import Task
from eval.records import ClipScore
from mytalk import atomic
from mytalk.command import UserError
from mytalk.machine import cores
from mytalk.progress import Progress

LONGEST_WAIT = timedelta(hours=6)  # of a process for the slowest one; the default of 10 minutes is too short


@dataclass(frozen=True)
class Job:
    """What is to be scored, into which folder, and what the scores belong to (protocol and digests)."""

    name: str
    out: Path
    tasks: list[Task]
    belongs: dict[str, Any]
    beside: tuple[str, ...] = ()  # what else lies in `out`: it goes when other scores are replaced


Scorer = Callable[[Task], ClipScore]


def foreign(job: Job, force: bool) -> list[Path]:
    """Files in `out` of another protocol or of other data or weights. Raises UserError unless `force`."""
    held: dict[Path, dict[str, Any]] = {}
    found = report.read(job.out)
    if found is not None:
        held[job.out / report.NAME] = report.belongs(found)
    for path in records.files(job.out):
        said, _ = records.read(path)
        if said is not None:
            held[path] = said
    other = [path for path, said in held.items() if said != job.belongs]
    if other and not force:
        said = held[other[0]]
        names = [
            f"{block}.{name}"
            for block in job.belongs
            for name in job.belongs[block]
            if said[block].get(name) != job.belongs[block][name]
        ]
        raise UserError(
            f"{job.out} holds scores that differ in {', '.join(names)}; name another folder, or replace them with "
            "--force"
        )
    return other


def run(
    job: Job,
    replaced: list[Path],
    scorer: Callable[[Any], Scorer],
    finish: Callable[[dict[str, ClipScore], dict[str, str]], None],
) -> None:
    """Score the clips that no earlier run finished, each in one of the processes.

    `scorer(device)` loads what scoring needs; `finish(scores by key, environment)` writes the report, in the first
    process. `replaced` are the files that go.
    """
    import torch  # after everything that can be refused without it
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=LONGEST_WAIT)
    if state.num_processes > 1:
        torch.set_num_threads(max(cores() // state.num_processes, 1))
    score = scorer(state.device)
    done = _finished(job.out, replaced)
    state.wait_for_everyone()  # all have read before the files are put together
    if state.is_main_process:
        _clear(job, replaced)
        records.write_whole(job.out, job.belongs, list(done.values()))
    state.wait_for_everyone()
    left = [task for task in job.tasks if task.key not in done]
    progress = Progress(job.name, len(job.tasks), "clips", done=len(done)) if state.is_main_process else None
    with records.part(job.out, state.process_index, job.belongs) as append:
        for place in range(state.process_index, len(left), state.num_processes):
            append(score(left[place]))
            if progress:  # the other processes are about as far
                progress.step(min(state.num_processes, len(left) - place))
    state.wait_for_everyone()
    if progress:
        progress.finish()
        scores = collected(job)
        records.write_whole(job.out, job.belongs, list(scores.values()))
        finish(scores, {"device": state.device.type, "torch": torch.__version__})
    state.wait_for_everyone()
    state.destroy_process_group()


def collected(job: Job) -> dict[str, ClipScore]:
    """Every clip's score by key, in the order of the tasks. Raises UserError where some are not there."""
    found = [score for path in records.files(job.out) for score in records.read(path)[1]]
    done = {score.key: score for score in found}
    assert len(found) == len(done), "the processes share the clips: none is scored twice"
    missing = [task.key for task in job.tasks if task.key not in done]
    if missing:
        raise UserError(f"{len(missing)} clips have no score; all processes must see the same folder {job.out}")
    return {task.key: done[task.key] for task in job.tasks}


def _clear(job: Job, replaced: list[Path]) -> None:
    job.out.mkdir(parents=True, exist_ok=True)
    atomic.sweep(job.out)
    for path in replaced:
        path.unlink()
    for name in job.beside if replaced else ():
        path = job.out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _finished(out: Path, replaced: list[Path]) -> dict[str, ClipScore]:
    """Scores by key in all files of `out` but those that are replaced.

    A kill between writing them together and removing the processes' files leaves some twice; they are the same.
    """
    return {s.key: s for path in records.files(out) if path not in replaced for s in records.read(path)[1]}

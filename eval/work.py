"""The clips of a scoring, shared among processes, each written down when it is done; resumed where it stopped."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import records, report
from eval.plan import Task
from eval.records import ClipScore
from mytalk import atomic
from mytalk.command import UserError
from mytalk.machine import cores, sole_user
from mytalk.progress import Progress

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

LOCK = "scoring"  # one name for both commands: they write the same files
LONGEST_WAIT = timedelta(hours=6)  # of a process for the slowest one; the default of 10 minutes is too short


@dataclass(frozen=True)
class Job:
    """What is to be scored, into which folder, and what the scores belong to (protocol and digests)."""

    name: str
    out: Path
    tasks: list[Task]
    belongs: dict[str, Any]
    beside: tuple[str, ...] = ()  # files that also lie in `out`: they go when other scores are replaced
    videos: str | None = None  # folder in `out` of videos by key: those of replaced scores go
    force: bool = False  # replace what `out` holds of other weights, settings or versions


Scorer = Callable[[Task], ClipScore]


def foreign(job: Job) -> list[Path]:
    """Files in `out` of another protocol, of other data or weights, or of another version.

    Raises UserError for them unless the job may replace them, and for a folder whose videos are somebody else's.
    """
    parts = records.files(job.out)
    ours = [*parts, job.out / report.NAME, job.out / f"{LOCK}.lock"]
    if job.videos and not any(path.exists() for path in ours):
        videos = job.out / job.videos
        if videos.is_dir() and any(videos.iterdir()):
            raise UserError(f"{videos} holds files and no {job.name} made them; name another folder")
    other = []
    for path in [job.out / report.NAME, *parts]:
        try:
            said = _belongs(job, path)
        except UserError:
            if not job.force:
                raise
            other.append(path)
            continue
        if said is not None and said != job.belongs:
            if not job.force:
                raise UserError(
                    f"{job.out} holds scores that differ in {', '.join(_differing(said, job.belongs))}; name another "
                    "folder, or replace them with --force"
                )
            other.append(path)
    return other


def _belongs(job: Job, path: Path) -> dict[str, Any] | None:
    """What a file of `out` belongs to; None where it does not say. Raises UserError where it cannot be read."""
    if path.name != report.NAME:
        return records.read(path)[0]
    found = report.read(job.out)
    return None if found is None else report.belongs(found)


def _differing(said: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{block}.{name}"
        for block in wanted
        for name in sorted({*said.get(block, {}), *wanted[block]})
        if said.get(block, {}).get(name) != wanted[block].get(name)
    ]


def run(
    job: Job,
    scorer: Callable[[Any], Scorer],
    finish: Callable[[dict[str, ClipScore], dict[str, str]], None],
) -> None:
    """Score the clips that no earlier run finished, each in one of the processes.

    `scorer(device)` loads what scoring needs; `finish(scores by key, environment)` writes the report, in the first
    process. What `foreign` finds goes first. Raises UserError where other processes score into the folder.
    """
    from accelerate import PartialState  # after everything that can be refused without it

    # The processes share no tensor, they only wait: gloo does that wherever they compute, and with fewer GPUs too.
    state = PartialState(cpu=True, timeout=LONGEST_WAIT)
    with sole_user(job.out, LOCK) if state.is_main_process else contextlib.nullcontext():
        _wait(state)
        _run(job, state, scorer, finish)
    state.destroy_process_group()


def _run(
    job: Job,
    state: PartialState,
    scorer: Callable[[Any], Scorer],
    finish: Callable[[dict[str, ClipScore], dict[str, str]], None],
) -> None:
    import torch

    if state.num_processes > 1:
        torch.set_num_threads(max(cores() // state.num_processes, 1))
    replaced = foreign(job)  # once more: another scoring may have ended between the first look and the lock
    device = device_of(state.local_process_index)
    score = scorer(device)
    done = _finished(job.out, replaced)
    _wait(state)  # all have read before the files are put together
    if state.is_main_process:
        _clear(job, replaced, set(done))
        records.write_whole(job.out, job.belongs, list(done.values()))
    _wait(state)
    left = [task for task in job.tasks if task.key not in done]
    progress = Progress(job.name, len(job.tasks), "clips", done=len(done)) if state.is_main_process else None
    with records.part(job.out, state.process_index, job.belongs) as append:
        for place in range(state.process_index, len(left), state.num_processes):
            append(score(left[place]))
            if progress:  # the other processes are about as far
                progress.step(min(state.num_processes, len(left) - place))
    _wait(state)
    if progress:
        progress.finish()
        scores = collected(job)
        records.write_whole(job.out, job.belongs, list(scores.values()))
        finish(scores, {"device": device.type, "torch": torch.__version__})
    _wait(state)


def device_of(local_process: int) -> torch.device:
    """Where a process of this machine computes: on the GPUs in turn, several to one where there are fewer."""
    import torch

    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_process % torch.cuda.device_count())


def _wait(state: PartialState) -> None:
    """Until every process is here. Accelerate's own wait names the GPU of the process's number, which may not be."""
    import torch

    if state.use_distributed:
        torch.distributed.barrier()


def collected(job: Job) -> dict[str, ClipScore]:
    """Every clip's score by key, in the order of the tasks. Raises UserError where some are not there."""
    found = [score for path in records.files(job.out) for score in records.read(path)[1]]
    done = {score.key: score for score in found}
    assert len(found) == len(done), "the processes share the clips: none is scored twice"
    missing = [task.key for task in job.tasks if task.key not in done]
    if missing:
        raise UserError(f"{len(missing)} clips have no score; all processes must see the same folder {job.out}")
    return {task.key: done[task.key] for task in job.tasks}


def _clear(job: Job, replaced: list[Path], done: set[str]) -> None:
    """Make way: what killed runs left, the `replaced` files, and what was made with them (nothing of others)."""
    atomic.sweep(job.out)
    if job.videos:
        for key in _keys(replaced) - done:
            for name in (key, f"{atomic.TEMPORARY}{key}"):
                shutil.rmtree(job.out / job.videos / name, ignore_errors=True)
    for path in replaced:
        path.unlink()
    for name in job.beside if replaced else ():
        (job.out / name).unlink(missing_ok=True)


def _keys(paths: list[Path]) -> set[str]:
    """Keys of the clips in files of scores, those that can be read and that name one folder."""
    found = set()
    for path in paths:
        if path.name != report.NAME:
            with contextlib.suppress(UserError):
                found |= {score.key for score in records.read(path)[1]}
    return {key for key in found if key not in ("", ".", "..") and Path(key).name == key}


def _finished(out: Path, replaced: list[Path]) -> dict[str, ClipScore]:
    """Scores by key in all files of `out` but those that are replaced.

    A kill between writing them together and removing the processes' files leaves some twice; they are the same.
    """
    return {s.key: s for path in records.files(out) if path not in replaced for s in records.read(path)[1]}

"""The clips of a scoring, shared among processes; each score is written when it is done, so that a run resumes.

Whatever is raised about one clip is its reason for having no score, and the others go on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval import score_file
from eval.report import check
from eval.rows import features, saved
from eval.score_file import ClipScore
from eval.tasks import Task
from mytalk import atomic, faults
from mytalk.command import RunAgain, UserError, one_line
from mytalk.machine import cores, joining, sole_user
from mytalk.progress import Progress

if TYPE_CHECKING:
    import torch
    from accelerate import PartialState

LOCK = "scoring"  # one name for both commands: they write the same files
ERROR, REFUSED, STORAGE, MEMORY = "error", "refused", "storage", "out_of_memory"  # beside what the rows name
OF_THE_MACHINE = (STORAGE, MEMORY)  # may pass: the clip is tried again by the next run
MOST_IN_A_ROW = 5  # clips that the storage fails to give; then it is the storage that is gone
LONGEST_WAIT = timedelta(hours=6)  # of a process for the slowest one; the default of 10 minutes is too short


@dataclass(frozen=True)
class ScoringJob:
    """What is to be scored, into which folder, and the provenance of the scores (protocol and digests)."""

    name: str
    out: Path
    tasks: Sequence[Task]
    provenance: dict[str, Any]
    other_files: tuple[str, ...] = ()  # names in `out` that are removed when other scores are replaced
    videos: str | None = None  # folder in `out` of videos by key: those of replaced scores are removed
    force: bool = False  # replace what `out` holds of other weights, settings or versions


Scorer = Callable[[Any], ClipScore]


def other_scores(job: ScoringJob) -> list[Path]:
    """Files in `out` of another protocol, of other data or weights, or of another version.

    Raises UserError for them unless the job may replace them, and for a folder with videos that no scoring made.
    """
    parts = score_file.files(job.out)
    written_here = [*parts, job.out / check.NAME, job.out / f"{LOCK}.lock"]
    if job.videos and not any(path.exists() for path in written_here):
        videos = job.out / job.videos
        if videos.is_dir() and any(videos.iterdir()):
            raise UserError(f"{videos} holds files and no {job.name} made them; name another folder")
    other = []
    for path in [job.out / check.NAME, *parts]:
        try:
            stored = _provenance(job, path)
        except UserError:
            if not job.force:
                raise
            other.append(path)
            continue
        if stored is not None and stored != job.provenance:
            if not job.force:
                differing = ", ".join(_differing(stored, job.provenance))
                raise UserError(
                    f"{job.out} holds scores that differ in {differing}; name another folder, or replace them with "
                    "--force"
                )
            other.append(path)
    return other


def _provenance(job: ScoringJob, path: Path) -> dict[str, Any] | None:
    """The provenance in a file of `out`, None without one. Raises UserError where it cannot be read."""
    if path.name != check.NAME:
        return score_file.read(path)[0]
    report = check.read(job.out)
    return None if report is None else check.provenance(report)


def _differing(stored: dict[str, Any], required: dict[str, Any]) -> list[str]:
    return [
        f"{block}.{name}"
        for block in required
        for name in sorted({*stored.get(block, {}), *required[block]})
        if stored.get(block, {}).get(name) != required[block].get(name)
    ]


def run(
    job: ScoringJob,
    scorer: Callable[[Any], Scorer],
    finish: Callable[[dict[str, ClipScore], dict[str, str]], None],
) -> None:
    """Score the clips that no earlier run finished, each in one of the processes.

    `scorer(device)` loads what scoring needs; `finish(scores by key, environment)` writes the report, in the first
    process. The files of `other_scores` are removed first. Raises UserError where other processes score into the
    folder.
    """
    from accelerate import PartialState  # after everything that can be refused without it

    # The processes share no tensor, they only wait: gloo does that wherever they compute, and with fewer GPUs too.
    with joining():
        state = PartialState(cpu=True, timeout=LONGEST_WAIT)
    with sole_user(job.out, LOCK) if state.is_main_process else contextlib.nullcontext():
        _wait(state)
        _run(job, state, scorer, finish)
    state.destroy_process_group()


def _run(
    job: ScoringJob,
    state: PartialState,
    scorer: Callable[[Any], Scorer],
    finish: Callable[[dict[str, ClipScore], dict[str, str]], None],
) -> None:
    import torch

    if state.num_processes > 1:
        torch.set_num_threads(max(cores() // state.num_processes, 1))
    replaced = other_scores(job)  # again: another scoring may have ended between the first look and the lock
    device = device_of(state.local_process_index)
    score = scorer(device)
    done = _finished(job.out, replaced)
    _wait(state)  # all have read before the files are merged
    if state.is_main_process:
        clear(job, replaced, set(done))
        score_file.write_whole(job.out, job.provenance, list(done.values()))
    _wait(state)
    left = [task for task in job.tasks if task.key not in done]
    progress = Progress(job.name, len(job.tasks), "clips", done=len(done)) if state.is_main_process else None
    with score_file.append_to(job.out, state.process_index, job.provenance) as append:
        failed_in_a_row = 0
        for place in range(state.process_index, len(left), state.num_processes):
            clip = attempt(score, left[place], job.out)
            append(clip)
            failed_in_a_row = failed_in_a_row + 1 if clip.reason in OF_THE_MACHINE else 0
            if failed_in_a_row == MOST_IN_A_ROW:
                where = "free the memory" if clip.reason == MEMORY else "mend the storage"
                raise RunAgain(f"the last {MOST_IN_A_ROW} clips could not be read or scored: {clip.message}; {where}")
            if clip.reason in (ERROR, MEMORY) and progress:
                progress.say(f"{clip.key}: {clip.message}; its traceback is in {job.out / faults.ERRORS_FILE}")
            if progress:  # the other processes are about as far
                progress.step(min(state.num_processes, len(left) - place))
    _wait(state)
    if progress:
        progress.finish()
        scores = collected(job)
        score_file.write_whole(job.out, job.provenance, list(scores.values()))
        finish(scores, {"device": device.type, "torch": torch.__version__})
    _wait(state)


def attempt(score: Scorer, task: Task, out: Path) -> ClipScore:
    """The score of a clip, or why it has none, whatever is raised about it.

    Raises errors of the machine and of the folder `out`: OSError, ImportError.
    """
    try:
        return score(task)
    except ImportError:
        raise
    except UserError as error:
        return _miss(task, REFUSED, one_line(error), crashed=True)
    except OSError as error:
        of_out = error.filename is not None and out.resolve() in Path(os.fsdecode(error.filename)).resolve().parents
        if error.errno in faults.OF_THE_MACHINE or of_out:
            raise
        return _miss(task, STORAGE, one_line(error))
    except Exception as error:
        memory = isinstance(error, MemoryError) or "CUDA" in str(error) or "out of memory" in str(error)
        return _miss(task, MEMORY if memory else ERROR, faults.logged(out, task.key, error), crashed=not memory)


def _miss(task: Task, reason: str, message: str, crashed: bool = False) -> ClipScore:
    failed = [score_file.ALL_ROWS] if crashed else []
    return ClipScore(task.key, task.person, reason=reason, message=message, failed=failed)


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


def collected(job: ScoringJob) -> dict[str, ClipScore]:
    """Every clip's score by key, in the order of the tasks. Raises UserError where some are not there."""
    scores = [score for path in score_file.files(job.out) for score in score_file.read(path)[1]]
    done = {score.key: score for score in scores}
    assert len(scores) == len(done), "the processes share the clips: none is scored twice"
    missing = [task.key for task in job.tasks if task.key not in done]
    if missing:
        raise UserError(f"{len(missing)} clips have no score; all processes must see the same folder {job.out}")
    return {task.key: done[task.key] for task in job.tasks}


def clear(job: ScoringJob, replaced: list[Path], done: set[str]) -> None:
    """Remove what killed runs left, the `replaced` files and what was written with them (nothing of others)."""
    atomic.sweep(job.out)
    if job.videos:
        for key in _keys(replaced) - done:
            for name in (saved.name_of(key), f"{atomic.TEMPORARY}{saved.name_of(key)}"):
                shutil.rmtree(job.out / job.videos / name, ignore_errors=True)
    if replaced:
        features.clear(job.out)
    for path in replaced:
        path.unlink()
    for name in (*job.other_files, faults.ERRORS_FILE) if replaced else ():
        (job.out / name).unlink(missing_ok=True)


def _keys(paths: list[Path]) -> set[str]:
    """Keys of the clips in files of scores, those that can be read."""
    keys = set()
    for path in paths:
        if path.name != check.NAME:
            with contextlib.suppress(UserError):
                keys |= {score.key for score in score_file.read(path)[1]}
    return keys


def _finished(out: Path, replaced: list[Path]) -> dict[str, ClipScore]:
    """Scores by key in all files of `out` but those that are replaced.

    A kill between merging them and removing the processes' files leaves some twice, with equal values. Clips that the
    storage failed to give, or that the memory was too small for, are not finished.
    """
    scores = [s for path in score_file.files(out) if path not in replaced for s in score_file.read(path)[1]]
    return {score.key: score for score in scores if score.reason not in OF_THE_MACHINE}

"""The batch script that Slurm runs.

srun starts the ranks, one task each, without a launcher in between: what Slurm signals is the training itself. It
catches USR1, which Slurm sends before the time is up, writes a checkpoint and ends with 75; the script then requeues
the job, and the same command continues. 75 without a newer checkpoint, as where storage is gone, counts as a crash, as
for every launcher (launch/follow/restart.py). Scoring (`eval`) needs none of that: the scores of a clip are on disk
when the clip is done, so any signal may end it, and the same command continues.

Of an array (`data_pipeline`) every element starts the same command, which takes what no other has taken. USR1 ends a
command that does not catch it; the element is requeued then, as after 75.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from launch.follow.restart import LONGEST_PAUSE_S, PAUSE_S
from launch.slurm.job import SlurmJob, directive
from launch.words import is_eval, is_training, run_folder
from mytalk.command import EVENTS, EXIT_DONE, EXIT_NOT_DONE, EXIT_RUN_AGAIN, EXIT_USAGE
from mytalk.machine import PORTS

# The script of one rank. exec: a shell in between would die of the signal, and the rank with it.
RANK = """
export RANK="$SLURM_PROCID" WORLD_SIZE="$SLURM_NTASKS" LOCAL_RANK="$SLURM_LOCALID"
exec "$@"
"""
# Before it, for training: TERM and USR1 are ignored until training catches them, and again when it has ended. The
# first rank to end with 75 makes srun send TERM to those that are still closing, and their code must stay 75.
IGNORE_EARLY_SIGNALS = """
trap "" TERM USR1"""

SCRIPT = """\
#!/bin/bash
{directives}
# Written by `python -m launch slurm`.

trap : USR1  # meant for the ranks; this shell must outlive it
{place}
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{threads}}}"
{variables}
{start}
if {again}; then
  echo "{stopped}; requeueing job {number}, which continues"
  scontrol requeue "{number}" || echo "job {number} cannot be requeued; submit it again to continue" >&2
fi
exit "$code"
"""
PLACE = """\
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MASTER_PORT=$(({first_port} + SLURM_JOB_ID % {ports}))
export LOCAL_WORLD_SIZE={ranks_per_node}"""
START = "{typed}\ncode=$?"
# A crash is followed by another try in the same job, as by launch/follow/restart.py: a newer checkpoint begins the
# count anew. Steps have six digits or more: by version a million is the newest. Storage that is gone shows none.
START_TRAINING = """\
newest() {{ ls -d -- {checkpoints}/step-* 2>/dev/null | sort -V | tail -n 1; }}
tries=0 before=$(newest)
while true; do
  {typed}
  code=$? now=$(newest) further=
  case "$code" in {no_crash}) break ;; esac
  if [ -n "$now" ] && [ "$now" != "$before" ]; then tries=0 before=$now further=yes; fi
  if [ "$code" -eq {run_again} ] && [ "$further" ]; then break; fi
  if [ "$tries" -ge {restarts} ]; then
    [ "$code" -ne {run_again} ] || echo "no newer checkpoint; submit job {number} again to continue" >&2
    break
  fi
  pause=$(({pause_s} << tries)) tries=$((tries + 1))
  if [ "$pause" -gt {longest_s} ]; then pause={longest_s}; fi
  echo "ended with exit code $code; starting again in $pause s (try $tries of {restarts})"
  printf '{{"event": "restart", "time": %s, "code": %s, "reason": "exit code %s", "then": "try %s of {restarts}", \
"world_size": %s}}\n' "$(date +%s)" "$code" "$code" "$tries" "$SLURM_NTASKS" >>{events} || true
  sleep "$pause"
done"""
# Elements of an array know nothing of each other: what a terminal or a job around has set does not reach them.
NO_PLACE = "unset RANK WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT"
ELEMENT = 'exec "$@"'
# The number of an array's last element is that of the array: by it alone all elements would be requeued.
NUMBER, ELEMENT_NUMBER = "$SLURM_JOB_ID", "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
DIED_OF_USR1 = 128 + signal.SIGUSR1  # a command that does not catch it, before its time is up


def script(job: SlurmJob, words: Sequence[str]) -> str:
    """The batch script that runs `python -m WORDS` in every rank of the job, or in every element of the array."""
    # Repeated here, since srun follows neither the job's --cpus-per-task (from 22.05 on) nor, with sbatch
    # --export=NONE, its environment.
    srun = ["srun", "--kill-on-bad-exit=1", "--label", "--export=ALL"]
    if job.cpus_per_rank is not None:
        srun.append(f"--cpus-per-task={job.cpus_per_rank}")
    in_srun, before = container(job)
    srun += in_srun
    place = PLACE.format(first_port=PORTS.start, ports=len(PORTS), ranks_per_node=job.ranks_per_node)
    rank = IGNORE_EARLY_SIGNALS + RANK if is_training(words) else RANK
    again = f'[ "$code" -eq {EXIT_RUN_AGAIN} ]' + (' && [ "$further" ]' if run_folder(words) else "")
    if job.elements:
        place, rank = NO_PLACE, ELEMENT
        again += f' || [ "$code" -eq {DIED_OF_USR1} ]'
    typed = " ".join(
        [shlex.join([*srun, "/bin/bash", "-c", rank, "rank"]), *map(quoted, (*before, job.python, "-m", *words))]
    )
    return SCRIPT.format(
        directives="\n".join(directive(*option) for option in directives(job, words)),
        place=place,
        threads=1 if job.elements else job.cpus_per_rank or 1,  # an element has a process for each CPU
        variables="".join(f"export {name}={quoted(value)}\n" for name, value in job.variables),
        start=starts(job, words, typed),
        again=again,
        stopped="stopped before the end" if job.elements else "stopped by a signal after a checkpoint",
        number=ELEMENT_NUMBER if job.elements else NUMBER,
    )


def starts(job: SlurmJob, words: Sequence[str], typed: str) -> str:
    """What sets `code`: the command once, a training so often as its crashes allow; that sets `further` as well."""
    run = run_folder(words)
    if run is None:
        return START.format(typed=typed)
    run = on_host(job, run)
    return START_TRAINING.format(
        typed=typed,
        checkpoints=quoted(str(run / "checkpoints")),
        events=quoted(str(run / EVENTS)),
        no_crash="|".join(map(str, (EXIT_DONE, EXIT_NOT_DONE, EXIT_USAGE))),
        run_again=EXIT_RUN_AGAIN,
        number=NUMBER,
        restarts=job.restarts,
        pause_s=f"{PAUSE_S:g}",
        longest_s=f"{LONGEST_PAUSE_S:g}",
    )


def on_host(job: SlurmJob, path: Path) -> Path:
    """Where the batch shell, which is in no container, finds a path of the ranks."""
    for mount in job.mounts:
        here, there = mount.split(":")[:2]
        if path.is_relative_to(there):
            return here / path.relative_to(there)
    return path


def in_allocation(job: SlurmJob, words: Sequence[str]) -> list[str]:
    """The srun that runs `python -m WORDS` in every rank, in a job of its own that it waits for."""
    asked = {"time": job.time, "partition": job.partition, "account": job.account, "job-name": job.name}
    asked |= {"nodes": str(job.nodes), "ntasks-per-node": str(job.ranks_per_node)}
    asked |= {"gpus-per-node": str(job.gpus_per_node)} if job.gpus_per_node else {}
    asked |= {"cpus-per-task": str(job.cpus_per_rank)} if job.cpus_per_rank else {}
    place = PLACE.format(first_port=PORTS.start, ports=len(PORTS), ranks_per_node=job.ranks_per_node)
    variables = "".join(f"export {name}={quoted(value)}\n" for name, value in job.variables)
    rank = f'{place}\nexport OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{job.cpus_per_rank or 1}}}"\n{variables}{RANK}'
    options = [f"--{key}={value}" for key, value in asked.items() if value]
    in_srun, before = container(job)
    start = ["/bin/bash", "-c", rank, "rank", *before, job.python, "-m", *words]
    return ["srun", "--kill-on-bad-exit=1", *options, *in_srun, *start]


def directives(job: SlurmJob, words: Sequence[str]) -> list[tuple[str, str | int | None]]:
    """The options of sbatch; None of one that has no value."""
    array = f"0-{job.elements - 1}" + (f"%{job.at_once}" if job.at_once else "")
    options: list[tuple[str, str | int | None]] = [
        ("job-name", job.name),
        ("array", array if job.elements else None),
        ("nodes", job.nodes),
        ("ntasks-per-node", job.ranks_per_node),
        ("gpus-per-node", job.gpus_per_node or None),
        ("cpus-per-task", job.cpus_per_rank),
        ("time", job.time),
        ("partition", job.partition),
        ("account", job.account),
        ("chdir", job.folder),
        ("output", os.path.join(job.log, log_name(job, "%A", "%a") if job.elements else log_name(job, "%j"))),
        ("signal", None if is_eval(words) else f"USR1@{job.signal_s}"),
        ("open-mode", "append"),
    ]
    return [*((key, value) for key, value in options if value is not None), ("requeue", None), *job.more]


def log_name(job: SlurmJob, number: str, element: str = "*") -> str:
    """The name of a job's log, or of those of an array's elements."""
    return f"slurm-{number}_{element}.out" if job.elements else f"slurm-{number}.out"


def container(job: SlurmJob) -> tuple[list[str], list[str]]:
    """For a job in a container: options of srun (pyxis), and what stands before Python (apptainer)."""
    if job.container == "pyxis":
        mounts = [f"--container-mounts={','.join(job.mounts)}"] if job.mounts else []
        return [f"--container-image={job.image}", *mounts, f"--container-workdir={job.folder}"], []
    if job.container == "apptainer":
        gpus = ["--nv"] if job.gpus_per_node else []
        binds = [word for mount in (f"{job.folder}:{job.folder}", *job.mounts) for word in ("--bind", mount)]
        return [], ["apptainer", "exec", *gpus, *binds, "--pwd", job.folder, job.image]
    return [], []


def quoted(word: str) -> str:
    """A word for bash, on one line: sbatch obeys #PBS and #BSUB at the start of any line, and refuses CR LF."""
    if "\n" not in word:
        return shlex.quote(word)
    return "$'" + word.translate({ord("\\"): r"\\", ord("'"): r"\'", ord("\n"): r"\n"}) + "'"

"""Gives a job to sbatch, and says what to type then."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys

from launch.slurm.job import SlurmJob
from launch.slurm.script import log_name
from mytalk.command import UserError

GPUS = re.compile(r"gpu:(?:([^:,(]+):)?(\d+)")  # of sinfo's GRES, such as gpu:h100:8(S:0-1)
CHOOSES = ("constraint", "gres", "gpus", "nodelist", "exclude")  # options that choose among kinds of nodes


def submit(job: SlurmJob, text: str) -> str:
    """Give the script to sbatch; the job's number. UserError where it is not taken."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise UserError(
            "there is no sbatch here; go to a login node of the cluster, or print the script with --dry-run"
        )
    refuse_mixed(job)
    os.makedirs(job.log, exist_ok=True)  # Slurm would not, and the job would fail without a word
    done = subprocess.run([sbatch, "--parsable"], input=os.fsencode(text), capture_output=True, check=False)
    output, errors = (stream.decode(errors="replace").strip() for stream in (done.stdout, done.stderr))
    if done.returncode != 0:
        reason = (errors or output or f"exit code {done.returncode}").splitlines()[-1]
        raise UserError(f"sbatch did not take the job: {reason}")
    if errors:
        print(errors, file=sys.stderr)
    number = output.splitlines()[-1].partition(";")[0] if output else ""  # NUMBER or NUMBER;CLUSTER
    if not number.isdecimal():
        raise UserError(f"sbatch took the job but gave no number; look for {job.name} in squeue")
    return number


def what_to_type(job: SlurmJob, number: str, folder: str) -> list[str]:
    """Where the job's log is, and how to follow, interrupt and stop it. `folder` is that of the command: train, ..."""
    log = shlex.quote(job.log) + "/" + log_name(job, number)
    size = f"{job.nodes} x {job.ranks_per_node}" if not job.elements else f"an array of {job.elements}"
    lines = [f"job {number}: {size} processes", f"log:       {log}", f"follow:    {come_back(number)}"]
    if folder == "train":
        lines.append(f"interrupt: scancel --signal=USR1 {number}   (writes a checkpoint; Slurm starts it again)")
    kept = {"eval": "finished clips are kept; ", "data_pipeline": "finished work is kept; "}.get(folder)
    return [
        *lines,
        f"stop:      scancel {number}" + (f"   ({kept}submit the same command to continue)" if kept else ""),
    ]


def come_back(number: str) -> str:
    """What follows a job that was submitted before."""
    return f"python -m launch slurm --follow {number}"


def refuse_mixed(job: SlurmJob) -> None:
    """UserError for GPUs of a partition that has several kinds: all ranks would wait for the slowest.

    Where sinfo does not answer, sbatch decides.
    """
    if not job.gpus_per_node or job.nodes == 1 or any(key.startswith(CHOOSES) for key, _ in job.more):
        return
    sinfo = shutil.which("sinfo")
    if sinfo is None:
        return
    done = subprocess.run([sinfo, "--noheader", "--format=%P|%G"], capture_output=True, text=True, check=False)
    wanted, kinds = set((job.partition or "").split(",")), set()
    for line in done.stdout.splitlines() if done.returncode == 0 else ():
        partition, _, resources = line.strip().partition("|")
        if partition.rstrip("*") in wanted or (not job.partition and partition.endswith("*")):
            kinds |= {kind for kind, count in GPUS.findall(resources) if int(count) >= job.gpus_per_node}
    if len(kinds) > 1:
        named = ", ".join(sorted(kind or "unnamed" for kind in kinds))
        raise UserError(
            f"partition {job.partition or 'by default'} has GPUs of several kinds ({named}), and all ranks would wait "
            f"for the slowest; choose: --gpus-per-node 0 --ranks-per-node {job.gpus_per_node} "
            f"--sbatch gres=gpu:KIND:{job.gpus_per_node}, or --sbatch constraint=FEATURE"
        )

"""Stand-ins of Slurm's commands, which write down what they were told; jobs as the command line describes them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from launch.slurm import command
from launch.slurm.job import SlurmJob
from launch.slurm.script import script

TRAIN = ["--", "train", "motion", "--config", "x.yaml"]

# srun starts the ranks one after another and returns the highest code, as the real one does.
SRUN = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD/srun"
while [[ $1 == --* ]]; do shift; done
highest=0
for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
  SLURM_PROCID=$rank SLURM_LOCALID=$((rank % LOCAL)) "$@" &
  started=$!
  wait $started
  code=$?
  [ "$(cat "$RECORD/$rank.pid")" = $started ] || echo "rank $rank is not the process that srun started" >&2
  if ((code > highest)); then highest=$code; fi
done
exit $highest
"""
SCONTROL = """#!/bin/bash
if [ "$1" = show ]; then printf 'first-of-%s\\nsecond\\n' "$3"; exit; fi
printf '%s ' "$@" >> "$RECORD/scontrol"
exit "$(cat "$RECORD/requeue_code")"
"""
PYTHON = """#!/bin/bash
RANK="${RANK:-0}"
echo $$ > "$RECORD/$RANK.pid"
printf '%s\\0' "$@" > "$RECORD/$RANK.argv"
env -0 > "$RECORD/$RANK.env"
grep SigIgn /proc/self/status > "$RECORD/$RANK.ignored"
exit "$(cat "$RECORD/$RANK.code")"
"""
SBATCH = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD/sbatch"
cat > "$RECORD/script"
echo "$SAYS"
echo "$COMPLAINS" >&2
exit "$CODE"
"""


def stand_in(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


class Cluster:
    """A folder of stand-ins that goes first on PATH, and what they were told."""

    def __init__(self, folder: Path):
        self.bin, self.record = folder / "bin", folder / "record"
        self.bin.mkdir(parents=True)
        self.record.mkdir()
        for name, text in {"srun": SRUN, "scontrol": SCONTROL, "sbatch": SBATCH}.items():
            stand_in(self.bin / name, text)
        self.python = stand_in(self.bin / "a python's; $(exit)", PYTHON)

    def job(self, **more) -> SlurmJob:
        given = {"name": "x", "nodes": 2, "ranks_per_node": 2, "gpus_per_node": 2, "signal_s": 60, "folder": "/"}
        return SlurmJob(**{**given, "log": "/", "python": str(self.python), **more})

    def run(self, job: SlurmJob, words: list[str], codes: tuple[int, ...] = (), requeue: int = 0, **environment: str):
        """The script run as the batch step of job 123456; `codes` are those of the ranks."""
        shutil.rmtree(self.record)
        self.record.mkdir()
        ranks = job.nodes * job.ranks_per_node
        for rank in range(ranks):
            (self.record / f"{rank}.code").write_text(str(codes[rank] if codes else 0))
        (self.record / "requeue_code").write_text(str(requeue))
        path = self.record / "script"
        path.write_bytes(os.fsencode(script(job, words)))
        told = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NTASKS": str(ranks)}
        told |= {"PATH": f"{self.bin}:{os.environ['PATH']}", "RECORD": str(self.record), "RANK": "of the submission"}
        told |= {"LOCAL": str(job.ranks_per_node), **environment}
        return subprocess.run(["/bin/bash", str(path)], env=told, capture_output=True, text=True)

    def strings(self, name: str) -> list[str]:
        """What a stand-in wrote, ended by NUL each."""
        return [os.fsdecode(part) for part in (self.record / name).read_bytes().split(b"\0")[:-1]]

    def environment(self, rank: int) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.strings(f"{rank}.env"))

    def requeued(self) -> str:
        told = self.record / "scontrol"
        return told.read_text().strip() if told.exists() else ""


def parsed(*typed: str):
    return command.arguments().parse_args(list(typed))

"""A Slurm of two nodes on this machine: its controller, two slurmd and a munged of their own, all as root.

Needs root, Slurm (22.05 was tried) and munge; without one of them tests are skipped by name. The first node is called
as this machine is, so that ranks find it by the name that Slurm tells them. Jobs of the partition `urgent` preempt
those of `debug`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mytalk.machine import free_port

NODES = (socket.gethostname(), f"{socket.gethostname()}-2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "sinfo")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"
CONFIGURATION = """\
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldLogFile={folder}/slurmctld.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/builtin
SelectType=select/linear
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SlurmdParameters=config_overrides
MpiDefault=none
JobRequeue=1
KillWait=20
MinJobAge=300
{nodes}
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2
"""


class TwoNodes:
    """A context that starts them and ends them; `environment` is what Slurm's commands need to find them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {"SLURM_CONF": str(folder / "slurm.conf"), "PATH": PATH}
        self.daemons: list[subprocess.Popen] = []

    def __enter__(self) -> TwoNodes:
        missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
        if missing or os.getuid():
            pytest.skip(f"a Slurm of two nodes needs root, Slurm and munge: {', '.join(missing) or 'not root'}")
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                os.kill(daemon.pid, signal.SIGKILL)
                daemon.wait()

    def ask(self, *typed: str) -> str:
        """What one of Slurm's commands says."""
        told = {**os.environ, **self.environment}
        return subprocess.run(typed, capture_output=True, text=True, check=True, timeout=60, env=told).stdout

    def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        """Wait for something; whether it came."""
        deadline = time.monotonic() + seconds
        while not holds() and time.monotonic() < deadline:
            time.sleep(0.2)
        return holds()

    def state(self, number: str) -> str:
        """The state of a job, such as RUNNING."""
        return self.ask("scontrol", "show", "job", number).partition("JobState=")[2].split()[0]

    def _start(self) -> None:
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        self.folder.chmod(0o755)  # munged refuses a socket that others cannot reach
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname()
        nodes = [
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=1 RealMemory=4000"
            for node in NODES
        ]
        written = CONFIGURATION.format(folder=self.folder, host=host, port=free_port(), nodes="\n".join(nodes))
        (self.folder / "slurm.conf").write_text(written)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
        munged = ["munged", "--force", "--foreground", *(f"--{k}={self.folder / v}" for k, v in files.items())]
        self._daemon(*munged)
        assert self.until((self.folder / "munge.socket").exists, 20), self._logs()
        self._daemon("slurmctld", "-D", "-c")
        for node in NODES:
            self._daemon("slurmd", "-D", "-N", node)
        assert self.until(self._idle, 60), self._logs()

    def _idle(self) -> bool:
        try:
            return self.ask("sinfo", "--noheader", "--partition=debug", "--format=%T %D").split() == ["idle", "2"]
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False

    def _daemon(self, *typed: str) -> None:
        told = {**os.environ, **self.environment}
        with open(self.folder / "daemons.log", "ab") as log:
            self.daemons.append(subprocess.Popen(typed, env=told, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def _logs(self) -> str:
        files = sorted(self.folder.glob("*.log"))
        return "\n".join(f"{file.name}: {file.read_text(errors='replace')[-1500:]}" for file in files)

"""Gives a job to kubectl, and follows what becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from launch.clusters.job import as_yaml
from launch.follow.attend import State, attend, leaving
from mytalk.command import EXIT_DONE, EXIT_NOT_DONE, UserError

PROGRAM = "python -m launch kubernetes"
KINDS = {"jobset": "jobset", "trainjob": "trainjob,trainingruntime"}  # and what is deleted to stop one
ENDS = {"Completed": EXIT_DONE, "Complete": EXIT_DONE, "Failed": EXIT_NOT_DONE}  # conditions of JobSet and TrainJob
SHOWN_LINES = 200  # of each pod, that were written before somebody comes back
LOOK_S = 2.0  # between looks for new pods
MOST_PODS = 1000  # whose logs are followed at once


@dataclass(frozen=True)
class Kubectl:
    """kubectl in the namespace of a job."""

    namespace: str
    name: str
    kind: str
    cluster: str | None = None  # as it was typed

    def submit(self, documents: Sequence[dict[str, Any]]) -> list[str]:
        """Create the job, the last document, and what it needs; lines that say how to follow and stop it.

        UserError where a job of that name is there.
        """
        where = f"-n {self.namespace}"
        stop = f"kubectl {where} delete {KINDS[self.kind]} {self.name}"
        # `apply` of the same job does nothing where it has ended, and its pods cannot be changed where it runs.
        if self.ask("get", self.kind, self.name, "--ignore-not-found", "-o", "name"):
            raise UserError(f"{self.kind} {self.name} is there already, under way or ended; delete it first: {stop}")
        *before, last = documents
        said = [
            self.ask(verb, "-f", "-", document=as_yaml(made)) for verb, made in (("apply", before), ("create", [last]))
        ]
        return [
            *said,
            f"follow:    {self.come_back()}",
            f"state:     kubectl {where} get {self.kind} {self.name}",
            f"stop:      {stop}   (writes a checkpoint; submit it again to continue)",
        ]

    def come_back(self) -> str:
        """What follows a job that was submitted before."""
        cluster = f" --cluster {self.cluster}" if self.cluster else ""
        kind = f" --kind {self.kind}" if self.kind != "jobset" else ""
        return f"{PROGRAM}{cluster}{kind} --follow {self.name}"

    def follow(self, new: bool = True) -> int:
        """Show the logs of all pods, and the job's state, until it has ended; 0 only if it is done."""
        name = f"{self.kind} {self.name}"
        with leaving(name, self.come_back()), contextlib.closing(Pods(self, None if new else SHOWN_LINES)) as pods:
            return attend(name, self.state, pods)

    def state(self) -> State:
        """The condition that is true now, or whether pods run, and restarts. UserError where the job is gone."""
        try:
            found = json.loads(self.ask("get", self.kind, self.name, "-o", "json")).get("status") or {}
        except UserError as error:
            if "NotFound" in str(error):
                raise UserError(f"{self.kind} {self.name} is not there; it was deleted, or never submitted") from None
            return State(f"not known ({error})")  # a moment without an answer ends nothing
        true = [one for one in found.get("conditions") or () if one.get("status") == "True"]
        for one in true:
            if one["type"] in ENDS:
                return State(f"{one['type']} {one.get('message') or ''}".strip(), ENDS[one["type"]])
        jobs = found.get("replicatedJobsStatus") or found.get("jobsStatus") or ()
        ready, active = (sum(one.get(key) or 0 for one in jobs) for key in ("ready", "active"))
        words = true[-1]["type"] if true else "running" if ready else "starting" if active else "waiting"
        restarts = found.get("restarts") or 0
        return State(words + (f", restarted {restarts} times" if restarts else ""))

    def ask(self, *words: str, document: str = "") -> str:
        """What kubectl says. UserError where it refuses."""
        done = subprocess.run(self.typed(*words), input=document.encode(), capture_output=True, check=False)
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
            raise UserError(f"kubectl did not take the job: {lines[-1]}" if document else f"kubectl: {lines[-1]}")
        return done.stdout.decode(errors="replace").strip()

    def typed(self, *words: str) -> list[str]:
        """The command line."""
        program = shutil.which("kubectl")
        if program is None:
            raise UserError("there is no kubectl here; install it, or print the job with --dry-run")
        return [program, "-n", self.namespace, *words]


class Pods:
    """Passes on the logs of a job's pods, also of those that a restart makes."""

    def __init__(self, kubectl: Kubectl, last_lines: int | None):
        self.kubectl = kubectl
        self.logs: subprocess.Popen | None = None
        self.since = [f"--tail={last_lines}"] if last_lines is not None else ["--tail=-1"]
        self.look_at = 0.0

    def __call__(self) -> bool:
        """Pass on what is new; whether there was anything."""
        if self.logs is None:
            if time.monotonic() < self.look_at:
                return False
            self.logs = self._open()
        assert self.logs.stdout is not None
        try:
            data = os.read(self.logs.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return False
        if not data:  # all pods have ended, or none has begun
            self.close()
            self.look_at = time.monotonic() + LOOK_S
            return False
        # A new look begins where this one was: of pods that have ended nothing comes twice.
        self.since = [f"--since-time={datetime.now(timezone.utc).isoformat(timespec='seconds')}"]
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return True

    def _open(self) -> subprocess.Popen:
        pods = f"jobset.sigs.k8s.io/jobset-name={self.kubectl.name}"
        words = ["logs", "--follow", "--selector", pods, "--prefix", f"--max-log-requests={MOST_PODS}", *self.since]
        # What it says of pods that are not there yet is told by the state.
        process = subprocess.Popen(
            self.kubectl.typed(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        return process

    def close(self) -> None:
        """End the kubectl that reads."""
        if self.logs is not None:
            self.logs.kill()
            self.logs.wait()
            assert self.logs.stdout is not None
            self.logs.stdout.close()
            self.logs = None

"""Commands on other hosts through ssh: this checkout's Python there. No word of a user is in the shell's line."""

from __future__ import annotations

import contextlib
import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from launch.hosts import probe
from launch.hosts.hostfile import Host
from launch.hosts.node import ENDED
from mytalk.command import EXIT_RUN_AGAIN, UserError

PATIENCE_S = 60.0  # for a host's answer to the probe
NO_CONNECTION = 255  # of ssh


@dataclass(frozen=True)
class Ssh:
    """How hosts are reached, and where the checkout is on them."""

    folder: str
    python: str
    config: str | None = None
    alive_s: int = 15  # a host that is silent for three times as long is gone

    def options(self) -> list[str]:
        """Nothing may ask for a password; a host that vanishes is noticed."""
        alive = [
            f"ConnectTimeout={max(5, self.alive_s)}",
            f"ServerAliveInterval={self.alive_s}",
            "ServerAliveCountMax=3",
        ]
        found = [word for option in ("BatchMode=yes", *alive) for word in ("-o", option)]
        return [*(("-F", self.config) if self.config else ()), *found, "-T"]

    def typed(self, host: str, words: Sequence[str]) -> list[str]:
        """What runs `python -m WORDS` on a host, in the checkout."""
        there = f"cd {shlex.quote(self.folder)} && exec {shlex.join([self.python, '-m', *words])}"
        return [program(), *self.options(), "--", host, there]

    def address(self, host: str) -> str:
        """The name or address that ssh connects to, by which other hosts find it too."""
        told = [program(), *self.options(), "-G", "--", host]
        done = subprocess.run(told, capture_output=True, text=True, check=False)
        names = [line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith("hostname ")]
        return names[0] if names else host

    def reaches(self, host: str) -> bool:
        """Whether a host answers."""
        told = [program(), *self.options(), "--", host, "true"]
        try:
            return subprocess.run(told, capture_output=True, timeout=PATIENCE_S, check=False).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def program() -> str:
    """ssh; UserError where there is none."""
    found = shutil.which("ssh")
    if found is None:
        raise UserError("there is no ssh here; install an OpenSSH client")
    return found


def probed(ssh: Ssh, hosts: Sequence[Host], disk: str) -> list[dict[str, Any]]:
    """What each host is (launch/hosts/probe.py), all asked at once. UserError for the first that does not answer."""

    def ask(host: Host) -> dict[str, Any]:
        try:
            done = subprocess.run(
                ssh.typed(host.name, ["launch.hosts.probe", disk]),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=PATIENCE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{host.name} does not answer within {PATIENCE_S:g} s; mend it, or remove its line"
            ) from None
        with contextlib.suppress(IndexError, ValueError):
            return json.loads(done.stdout.splitlines()[-1])
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if done.returncode == NO_CONNECTION:
            raise UserError(f"{host.name} cannot be reached by ssh: {said}")
        raise UserError(f"{host.name} cannot run {ssh.python} in {ssh.folder}: {said}; put the same checkout there")

    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(ask, hosts))


def refuse_unlike(hosts: Sequence[Host], found: Sequence[dict[str, Any]]) -> None:
    """UserError where a host has other code or versions than the first."""
    for host, facts in zip(hosts[1:], found[1:]):
        if unlike := probe.difference(found[0], facts):
            raise UserError(f"{hosts[0].name} and {host.name} are not alike: {unlike}; bring both to the same state")


@dataclass
class Node:
    """One host's ranks while they run: their lines come out here, and how they ended."""

    host: Host
    process: subprocess.Popen
    id: str
    lock: threading.Lock
    told: dict[str, Any] | None = None  # its last line
    threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        for stream, out in ((self.process.stdout, sys.stdout), (self.process.stderr, sys.stderr)):
            thread = threading.Thread(target=self._relay, args=(stream, out), daemon=True)
            thread.start()
            self.threads.append(thread)

    def _relay(self, stream: Any, out: Any) -> None:
        mark = f"{ENDED} {self.id} ".encode()
        for line in stream:
            if line.startswith(mark):
                with contextlib.suppress(ValueError):
                    self.told = json.loads(line[len(mark) :])
                continue
            with self.lock:
                out.buffer.write(line if line.endswith(b"\n") else line + b"\n")
                out.buffer.flush()

    def signal(self, name: str) -> None:
        """Have its ranks get a signal."""
        with contextlib.suppress(OSError, ValueError):
            assert self.process.stdin is not None
            self.process.stdin.write(f"{name}\n".encode())
            self.process.stdin.flush()

    def kill(self) -> None:
        """Close the stdin of the other side, which then kills its ranks and itself."""
        with contextlib.suppress(OSError, ValueError):
            assert self.process.stdin is not None
            self.process.stdin.close()

    def ended(self) -> bool:
        """Whether the other side has ended and all of its output has arrived."""
        if self.process.poll() is None:
            return False
        for thread in self.threads:
            thread.join(2.0)
        return True

    def code(self) -> int:
        """Its exit code."""
        return self.told["code"] if self.told else self.process.returncode

    def order(self) -> int:
        """0 where it tells why it failed, then those whose rank was killed, lost hosts, lost peers, 75."""
        kind = (self.told or {}).get("error", {}).get("kind")
        if self.code() == EXIT_RUN_AGAIN:
            return 4
        if kind == "peer":
            return 3
        return {"user": 0, "machine": 0, "bug": 2}.get(str(kind), 1)


def opened(ssh: Ssh, host: Host, job: dict[str, Any], lock: threading.Lock) -> Node:
    """Start a host's ranks; the job goes through stdin."""
    process = subprocess.Popen(
        ssh.typed(host.name, ["launch", "node", "--supervised"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C at the terminal reaches the launcher alone
    )
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # its end says why
        process.stdin.write(json.dumps(job).encode() + b"\n")
        process.stdin.flush()
    return Node(host, process, job["id"], lock)

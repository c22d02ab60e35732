"""Two hosts on this machine: network namespaces on a bridge, each with its own address and an sshd.

Needs root, iproute2 and OpenSSH's server; without one of them tests are skipped by name.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

INTERFACE = "eth0"  # of each host


@dataclass
class Host:
    """A namespace with its sshd."""

    name: str
    namespace: str
    address: str
    sshd: subprocess.Popen

    def processes(self) -> list[int]:
        """All processes in the namespace."""
        done = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True)
        return [int(word) for word in done.stdout.split()]

    def vanish(self) -> None:
        """As if its power failed: every process is killed, and nobody answers any more."""
        for _ in range(20):
            for process in self.processes():
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.02)


@dataclass
class Hosts:
    """Both, and ssh's configuration that reaches them."""

    one: Host
    two: Host
    config: Path

    def hostfile(self, folder: Path, slots: int = 1) -> Path:
        """A hostfile of both."""
        file = folder / "hosts"
        file.write_text(f"{self.one.name} slots={slots}\n{self.two.name} slots={slots}\n")
        return file


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class TwoHosts:
    """A context that makes them and takes them away."""

    def __init__(self, folder: Path):
        self.folder, self.hosts = folder, list[Host]()
        number = os.getpid() % 50_000
        self.bridge, self.subnet = f"mtb{number}", f"10.{64 + number % 128}.{number // 128 % 256}"

    def __enter__(self) -> Hosts:
        sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        missing = [name for name in ("ip", "ssh", "ssh-keygen") if shutil.which(name) is None]
        missing += [] if sshd else ["sshd"]
        if missing or os.getuid():
            pytest.skip(f"two hosts need root, iproute2 and OpenSSH: {', '.join(missing) or 'not root'}")
        try:
            ip("link", "add", self.bridge, "type", "bridge")
            ip("addr", "add", f"{self.subnet}.254/24", "dev", self.bridge)
            ip("link", "set", self.bridge, "up")
            self._keys()
            for number, name in enumerate(("one", "two"), 1):
                self.hosts.append(self._host(name, number, str(sshd)))
        except subprocess.CalledProcessError as error:
            self.__exit__()
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.decode().strip()}")
        return Hosts(self.hosts[0], self.hosts[1], self._config())

    def __exit__(self, *_: object) -> None:
        for host in self.hosts:
            host.vanish()
            host.sshd.wait(10)
        for name in ("one", "two"):
            subprocess.run(["ip", "netns", "del", f"{self.bridge}-{name}"], capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)

    def _keys(self) -> None:
        for name in ("host", "user"):
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(made, check=True, capture_output=True)
        os.makedirs("/run/sshd", exist_ok=True)

    def _host(self, name: str, number: int, sshd: str) -> Host:
        space, outer = f"{self.bridge}-{name}", f"{self.bridge}v{number}"
        ip("netns", "add", space)
        ip("link", "add", outer, "type", "veth", "peer", "name", INTERFACE, "netns", space)
        ip("link", "set", outer, "master", self.bridge)
        ip("link", "set", outer, "up")
        ip("-n", space, "addr", "add", f"{self.subnet}.{number}/24", "dev", INTERFACE)
        ip("-n", space, "link", "set", INTERFACE, "up")
        ip("-n", space, "link", "set", "lo", "up")
        told = self.folder / f"sshd-{name}.conf"
        told.write_text(
            f"ListenAddress {self.subnet}.{number}\nHostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/user.pub\n"
            f"StrictModes no\nPermitRootLogin yes\nUsePAM no\nPidFile none\n"
        )
        listening = ["ip", "netns", "exec", space, sshd, "-D", "-e", "-f", str(told)]
        with open(self.folder / f"sshd-{name}.log", "wb") as log:
            process = subprocess.Popen(listening, stdout=log, stderr=log)
        return Host(name, space, f"{self.subnet}.{number}", process)

    def _config(self) -> Path:
        file = self.folder / "ssh.conf"
        common = f"User root\nIdentityFile {self.folder}/user\nUserKnownHostsFile /dev/null\nStrictHostKeyChecking no\n"
        common += "LogLevel ERROR\n"
        file.write_text("".join(f"Host {host.name}\nHostName {host.address}\n{common}" for host in self.hosts))
        for host in self.hosts:
            self._wait_for(file, host)
        return file

    def _wait_for(self, file: Path, host: Host) -> None:
        for _ in range(100):
            if subprocess.run(["ssh", "-F", str(file), host.name, "true"], capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        log = (self.folder / f"sshd-{host.name}.log").read_text()
        self.__exit__()
        pytest.skip(f"sshd does not answer here: {log[-500:]}")
